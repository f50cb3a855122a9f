// Compiled once for each instruction set, with -DINSTRUCTIONS=<its name> and the compiler's
// flags for it: chooses the template for a call's cell and precision.
#include "kernels.h"

#include "gradients.h"
#include "gru.h"
#include "lstm.h"
#include "measures.h"
#include "recurrence.h"
#include "rnn.h"
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
// use(a factor) of the type of the factors that a precision names
template <class Use>
void with_precision(int32_t precision, Use use) {
    if (precision == FLOAT64)
        use(double{});
    else if (precision == BFLOAT16)
        use(Pair{});
    else
        use(float{});
}
template <class Use>
void with_recurrence(const Recurrence &r, Use use) {
    with_precision(r.precision, [&](auto e) { with_cell<Recur, decltype(e)>(r, use); });
}
template <class Use>
void with_gradients(const Recurrence &r, Use use) {
    const size_t gates = size_t(gates_of(r.cell));
    with_precision(r.precision, [&](auto e) { use(LayerGradients<decltype(e)>(r, gates)); });
}
template <class Use>
void with_affine(const AffineGradients &a, Use use) {
    with_precision(a.precision, [&](auto e) { use(AffineBack<decltype(e)>(a)); });
}
template <class Use>
void with_product(const Product &p, Use use) {
    with_precision(p.precision, [&](auto e) { use(Multiply<decltype(e)>(p)); });
}
template <class Use>
void with_model(const LanguageModel &m, Use use) {
    if (m.precision == FLOAT64)
        with_cell<Read, double>(m, use);
    else
        with_cell<Read, float>(m, use);
}

void forward(const void *call, Team &team) {
    with_recurrence(*static_cast<const Recurrence *>(call),
                    [&](const auto &recur) { recur.forward(team); });
}
void backward(const void *call, Team &team) {
    const Recurrence &r = *static_cast<const Recurrence *>(call);
    with_recurrence(r, [&](const auto &recur) { recur.backward(team); });
    with_gradients(r, [&](const auto &gradients) { gradients.work(team); });
}
size_t forward_bytes(const Recurrence &r) {
    size_t bytes = 0;
    with_recurrence(r, [&](const auto &recur) { bytes = recur.bytes; });
    return bytes;
}
size_t backward_bytes(const Recurrence &r) {  // the gradients come after the steps
    size_t bytes = forward_bytes(r);
    with_gradients(r, [&](const auto &gradients) {
        const size_t more = gradients.bytes();
        bytes = more > bytes ? more : bytes;
    });
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
void affine_backward(const void *call, Team &team) {
    with_affine(*static_cast<const AffineGradients *>(call),
                [&](const auto &back) { back.work(team); });
}
size_t affine_backward_bytes(const AffineGradients &a) {
    size_t bytes = 0;
    with_affine(a, [&](const auto &back) { bytes = back.bytes(); });
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
                         forward_bytes,
                         backward_bytes,
                         product,
                         product_bytes,
                         affine_backward,
                         affine_backward_bytes,
                         work<NormsOf, Norms>,
                         NormsOf<float>::bytes,
                         work<MeasureLayer, LayerNumbers>,
                         pack_model,
                         packed_bytes,
                         read_text,
                         read_bytes};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
