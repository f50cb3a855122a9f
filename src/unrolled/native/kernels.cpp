// Compiled once for each instruction set and precision, with -DINSTRUCTIONS=<its name>,
// -DPRECISION=<FLOAT32, FLOAT64 or BFLOAT16> and the compiler's flags for the instructions.
#include "kernels.h"

#include <type_traits>

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

// of a product's factors
using Element = std::conditional_t<PRECISION == FLOAT64, double,
                                   std::conditional_t<PRECISION == BFLOAT16, Pair, float>>;

// use(Job<Cell, E>(call)) for the cell that the call names
template <template <template <class> class, class> class Job, class E, class Call, class Use>
auto with_cell(const Call &call, Use use) {
    if (call.cell == LSTM) return use(Job<Lstm, E>(call));
    if (call.cell == GRU) return use(Job<Gru, E>(call));
    return use(Job<Rnn, E>(call));
}

template <class E>
void forward(const void *call, Team &team) {
    with_cell<Recur, E>(*static_cast<const Recurrence *>(call),
                        [&](const auto &recur) { recur.forward(team); });
}
template <class E>
void backward(const void *call, Team &team) {
    const Recurrence &r = *static_cast<const Recurrence *>(call);
    with_cell<Recur, E>(r, [&](const auto &recur) { recur.backward(team); });
    LayerGradients<E>(r).work(team);
}
template <class E>
size_t forward_bytes(const Recurrence &r) {
    return with_cell<Recur, E>(r, [](const auto &recur) { return recur.bytes; });
}
template <class E>
size_t backward_bytes(const Recurrence &r) {  // the gradients come after the steps
    return larger(forward_bytes<E>(r), LayerGradients<E>(r).bytes());
}
template <class T>
void pack_model(const LanguageModel &m) {
    with_cell<Read, T>(m, [](const auto &read) { read.pack_weights(); });
}
template <class T>
size_t packed_bytes(const LanguageModel &m) {
    return with_cell<Read, T>(m, [](const auto &read) { return read.packed_bytes(); });
}
template <class T>
void read_text(const void *call, Team &team) {
    const Text &text = *static_cast<const Text *>(call);
    with_cell<Read, T>(*text.model, [&](const auto &read) { read.read(text, team); });
}
template <class T>
size_t read_bytes(const LanguageModel &m) {
    return with_cell<Read, T>(m, [](const auto &read) { return read.carve(nullptr).bytes; });
}

// Job(call).work(team), and how much scratch memory that needs
template <class Job, class Call>
void work(const void *call, Team &team) {
    Job(*static_cast<const Call *>(call)).work(team);
}
template <class Job, class Call>
size_t bytes(const Call &call) {
    return Job(call).bytes();
}

template <class E>
constexpr Kernels table() {
    Kernels k{};
    k.forward = forward<E>, k.forward_bytes = forward_bytes<E>;
    k.backward = backward<E>, k.backward_bytes = backward_bytes<E>;
    k.product = work<Multiply<E>, Product>, k.product_bytes = bytes<Multiply<E>, Product>;
    k.affine_backward = work<AffineBack<E>, AffineGradients>;
    k.affine_backward_bytes = bytes<AffineBack<E>, AffineGradients>;
    if constexpr (std::is_floating_point<E>::value) {
        k.norms = work<NormsOf<E>, Norms>, k.norms_bytes = bytes<NormsOf<E>, Norms>;
        k.layer_numbers = work<MeasureLayer<E>, LayerNumbers>;
        k.layer_numbers_bytes = bytes<MeasureLayer<E>, LayerNumbers>;
        k.pack_model = pack_model<E>, k.packed_bytes = packed_bytes<E>;
        k.read_text = read_text<E>, k.read_bytes = read_bytes<E>;
    }
    return k;
}

}  // namespace

#define JOINED(precision, name) precision##name
#define OF(precision) JOINED(precision, _KERNELS)
extern const Kernels OF(PRECISION);
const Kernels OF(PRECISION) = table<Element>();

}  // namespace INSTRUCTIONS
}  // namespace unrolled
