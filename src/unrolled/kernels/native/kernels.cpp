// Compiled once for each instruction set, with -DINSTRUCTIONS=<its name> and the compiler's
// flags for it: chooses the template for a call's cell and precision.
#include "kernels.h"

#include "gru.h"
#include "lstm.h"
#include "measures.h"
#include "product.h"
#include "recurrence.h"
#include "rnn.h"
#include "row_sums.h"
#include "text.h"

namespace unrolled {
namespace INSTRUCTIONS {
namespace {

// use(Job<Cell, E>(call)) for the cell and the precision that the call names
template <template <template <class> class, class> class Job, class E, class Call, class Use>
void with_cell(const Call &call, Use use) {
    if (call.cell == LSTM)
        use(Job<Lstm, E>(call));
    else if (call.cell == GRU)
        use(Job<Gru, E>(call));
    else
        use(Job<Rnn, E>(call));
}
template <class Use>
void with_recurrence(const Recurrence &r, Use use) {
    if (r.precision == FLOAT64)
        with_cell<Recur, double>(r, use);
    else if (r.precision == BFLOAT16)
        with_cell<Recur, Pair>(r, use);
    else
        with_cell<Recur, float>(r, use);
}
template <class Use>
void with_model(const LanguageModel &m, Use use) {
    if (m.precision == FLOAT64)
        with_cell<Read, double>(m, use);
    else
        with_cell<Read, float>(m, use);
}
template <class Use>
void with_product(const Product &p, Use use) {
    if (p.precision == FLOAT64)
        use(Multiply<double>(p));
    else if (p.precision == BFLOAT16)
        use(Multiply<Pair>(p));
    else
        use(Multiply<float>(p));
}

void forward(const void *call, Team &team) {
    with_recurrence(*static_cast<const Recurrence *>(call),
                    [&](const auto &recur) { recur.forward(team); });
}
void backward(const void *call, Team &team) {
    with_recurrence(*static_cast<const Recurrence *>(call),
                    [&](const auto &recur) { recur.backward(team); });
}
size_t recurrence_bytes(const Recurrence &r) {
    size_t bytes = 0;
    with_recurrence(r, [&](const auto &recur) { bytes = recur.bytes; });
    return bytes;
}
void product(const void *call, Team &team) {
    with_product(*static_cast<const Product *>(call),
                 [&](const auto &multiply) { multiply.work(team); });
}
size_t product_bytes(const Product &p) {
    size_t bytes = 0;
    with_product(p, [&](const auto &multiply) { bytes = multiply.bytes; });
    return bytes;
}
// for calls whose precision is FLOAT32 or FLOAT64: Of<T>{call}.work(team)
template <template <class> class Of, class Call>
void work(const void *call, Team &team) {
    const Call &c = *static_cast<const Call *>(call);
    if (c.precision == FLOAT64)
        Of<double>{c}.work(team);
    else
        Of<float>{c}.work(team);
}
void pack_model(const LanguageModel &m) {
    with_model(m, [](const auto &read) { read.pack_weights(); });
}
size_t packed_bytes(const LanguageModel &m) {
    size_t bytes = 0;
    with_model(m, [&](const auto &read) { bytes = read.packed_bytes(); });
    return bytes;
}
void read_text(const void *call, Team &team) {
    const Text &text = *static_cast<const Text *>(call);
    with_model(*text.model, [&](const auto &read) { read.read(text, team); });
}
size_t read_bytes(const LanguageModel &m) {
    size_t bytes = 0;
    with_model(m, [&](const auto &read) { bytes = read.workspace_bytes(); });
    return bytes;
}

}  // namespace

extern const Kernels KERNELS;
const Kernels KERNELS = {LANES<float>,
                         forward,
                         backward,
                         recurrence_bytes,
                         product,
                         product_bytes,
                         work<SumRows, RowSums>,
                         work<NormsOf, Norms>,
                         NormsOf<float>::bytes,
                         work<MeasureLayer, LayerNumbers>,
                         pack_model,
                         packed_bytes,
                         read_text,
                         read_bytes};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
