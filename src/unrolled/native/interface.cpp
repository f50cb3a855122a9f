// The C functions: check what was given, find the CPU's kernels, start the threads.
#include "interface.h"

#include <algorithm>

#include "kernels.h"

namespace unrolled {
namespace {

constexpr int32_t MOST_THREADS = 1 << 16;

bool in_range(int64_t x, int64_t low, int64_t high) { return low <= x && x <= high; }

bool cpu_has(int instructions) {
#if defined(__x86_64__)
    switch (instructions) {
        case AVX512_BF16:
            return cpu_has(AVX512) && __builtin_cpu_supports("avx512bf16");
        case AVX512:
            return cpu_has(AVX2) && __builtin_cpu_supports("avx512f");
        case AVX2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        default:
            break;
    }
#endif
    return instructions == PORTABLE;
}

// NULL where the CPU or this build lacks them
const Kernels *kernels(int instructions, int precision) {
    if (!cpu_has(instructions) || !in_range(precision, FLOAT32, BFLOAT16)) return nullptr;
#define TABLES(set) {&set::FLOAT32_KERNELS, &set::FLOAT64_KERNELS, &set::BFLOAT16_KERNELS}
    static const Kernels *const tables[][3] = {
        TABLES(portable),
#ifdef HAS_avx2
        TABLES(avx2),
#else
        {},
#endif
#ifdef HAS_avx512
        TABLES(avx512),
#else
        {},
#endif
#ifdef HAS_avx512_bf16
        {&avx512::FLOAT32_KERNELS, &avx512::FLOAT64_KERNELS, &avx512_bf16::BFLOAT16_KERNELS},
#else
        {},
#endif
    };
    return tables[instructions][precision];  // cpu_has knows no other instructions
}

// Whether sizes are what the kernels can work on: all that scratch memory depends on. It is asked
// for before there are arrays, so this comes before these are looked at.
bool threads_fit(int32_t threads) { return in_range(threads, 1, MOST_THREADS); }
bool sizes_fit(const Recurrence &r) {
    return in_range(r.cell, RNN, LSTM) && in_range(r.precision, FLOAT32, BFLOAT16) &&
           threads_fit(r.threads) && r.T > 0 && r.B > 0 && r.H > 0;
}
bool sizes_fit(const Product &p) {
    return in_range(p.precision, FLOAT32, BFLOAT16) && threads_fit(p.threads) && p.M > 0 &&
           p.N > 0 && p.K > 0 && in_range(p.groups, 1, 4);
}
bool sizes_fit(const AffineGradients &a) {
    return in_range(a.precision, FLOAT32, BFLOAT16) && threads_fit(a.threads) && a.N > 0 &&
           a.D > 0 && a.V > 0;
}
bool sizes_fit(const Norms &n) {
    if (!in_range(n.precision, FLOAT32, FLOAT64) || !threads_fit(n.threads) || n.count < 1 ||
        !n.sizes)
        return false;
    return std::all_of(n.sizes, n.sizes + n.count, [](int64_t size) { return size >= 0; });
}
bool sizes_fit(const LayerNumbers &l) {
    return in_range(l.precision, FLOAT32, FLOAT64) && threads_fit(l.threads) && l.T > 0 &&
           l.B > 0 && l.H > 0 && l.G > 0;
}
bool sizes_fit(const LanguageModel &m) {
    return in_range(m.cell, RNN, LSTM) && in_range(m.precision, FLOAT32, FLOAT64) &&
           m.layers > 0 && m.H > 0 && m.V > 0;
}

int32_t check_arrays(const Recurrence &r, bool backward) {
    const int gates = gates_of(r.cell);
    if (!r.outputs || (r.cell == LSTM && !r.cells) || !r.workspace) return BAD_ARGUMENT;
    for (int g = 0; g < gates; ++g) {
        if (!r.W_h[g] || (!backward && !r.inputs[g])) return BAD_ARGUMENT;
        if (backward && (!r.dW_h[g] != !r.dW_h[0] || !r.dW_x[g] != !r.dW_x[0])) return BAD_ARGUMENT;
    }
    if (backward && (!r.D || (r.cell >= GRU && !r.gates) || (r.cell == GRU && !r.dA) ||
                     (r.cell != GRU && r.db_hh) || (r.dW_x[0] && !r.ids)))
        return BAD_ARGUMENT;
    if (r.ids && (!backward || r.dW_x[0])) {
        for (int64_t k = 0; k < r.T * r.B; ++k)
            if (!in_range(r.ids[k], 0, r.V - 1)) return BAD_ID;
    }
    return OK;
}
int32_t check_arrays(const Product &p) {
    if (!p.A || !p.workspace || (p.split > 0 && !p.A_first)) return BAD_ARGUMENT;
    for (int g = 0; g < p.groups; ++g)
        if (!p.B[g] || !p.C[g]) return BAD_ARGUMENT;
    return OK;
}
int32_t check_arrays(const AffineGradients &a) {
    return a.X && a.W && a.dY && a.dX && a.dW && a.db && a.workspace ? OK : BAD_ARGUMENT;
}
int32_t check_arrays(const Norms &n) {
    if (!n.a || !n.norms || !n.workspace) return BAD_ARGUMENT;
    for (int64_t i = 0; i < n.count; ++i)
        if (n.sizes[i] && (!n.a[i] || (n.b && !n.b[i]))) return BAD_ARGUMENT;
    return OK;
}
int32_t check_arrays(const LayerNumbers &l) {
    return l.dH && l.D && l.after && l.numbers && l.workspace ? OK : BAD_ARGUMENT;
}
int32_t check_arrays(const LanguageModel &m) {
    if (!m.layer || !m.W_hq || !m.b_q || !m.packed) return BAD_ARGUMENT;
    for (int32_t l = 0; l < m.layers; ++l)
        for (int g = 0; g < gates_of(m.cell); ++g)
            if (!m.layer[l].W_x[g] || !m.layer[l].W_h[g]) return BAD_ARGUMENT;
    return OK;
}

// First the sizes, then whether there are such kernels, then the arrays.
template <class Call, class... How>
int32_t check(const Call &call, How... how) {
    if (!sizes_fit(call)) return BAD_ARGUMENT;
    if (!kernels(call.instructions, call.precision)) return NO_SUCH_INSTRUCTIONS;
    return check_arrays(call, how...);
}

template <class Call, class... How>
int32_t call(const Call *c, void (*Kernels::*work)(const void *, Team &), How... how) {
    const int32_t error = check(*c, how...);
    if (!error) run(c->threads, c->openmp, kernels(c->instructions, c->precision)->*work, c);
    return error;
}
template <class Call>
int64_t bytes(const Call *c, size_t (*Kernels::*count)(const Call &)) {
    const Kernels *k = sizes_fit(*c) ? kernels(c->instructions, c->precision) : nullptr;
    return k ? int64_t((k->*count)(*c)) : -1;
}

}  // namespace
}  // namespace unrolled

using namespace unrolled;

int32_t unrolled_forward(const Recurrence *r) { return call(r, &Kernels::forward, false); }
int32_t unrolled_backward(const Recurrence *r) { return call(r, &Kernels::backward, true); }
int32_t unrolled_product(const Product *p) { return call(p, &Kernels::product); }
int32_t unrolled_affine_backward(const AffineGradients *a) {
    return call(a, &Kernels::affine_backward);
}
int32_t unrolled_norms(const Norms *n) { return call(n, &Kernels::norms); }
int32_t unrolled_layer_numbers(const LayerNumbers *l) { return call(l, &Kernels::layer_numbers); }

int64_t unrolled_forward_workspace(const Recurrence *r) { return bytes(r, &Kernels::forward_bytes); }
int64_t unrolled_backward_workspace(const Recurrence *r) {
    return bytes(r, &Kernels::backward_bytes);
}
int64_t unrolled_product_workspace(const Product *p) { return bytes(p, &Kernels::product_bytes); }
int64_t unrolled_affine_backward_workspace(const AffineGradients *a) {
    return bytes(a, &Kernels::affine_backward_bytes);
}
int64_t unrolled_norms_workspace(const Norms *n) { return bytes(n, &Kernels::norms_bytes); }
int64_t unrolled_layer_numbers_workspace(const LayerNumbers *l) {
    return bytes(l, &Kernels::layer_numbers_bytes);
}
int64_t unrolled_packed_bytes(const LanguageModel *m) { return bytes(m, &Kernels::packed_bytes); }
int64_t unrolled_read_workspace(const LanguageModel *m) { return bytes(m, &Kernels::read_bytes); }

int32_t unrolled_pack(const LanguageModel *m) {
    const int32_t error = check(*m);
    if (!error) kernels(m->instructions, m->precision)->pack_model(*m);
    return error;
}

int32_t unrolled_read_threads(const LanguageModel *m) {
    const int64_t filled = unrolled_packed_bytes(m) / int64_t(second_cache_bytes()) + 1;
    return int32_t(std::min<int64_t>(filled, openmp_threads()));
}

int32_t unrolled_read(const Text *t) {
    if (!t->model || !threads_fit(t->threads) || t->T < 1 || !in_range(t->given, 1, t->T) ||
        !t->ids || (t->uniform && !(t->temperature > 0)) || !t->state || !t->logits ||
        !t->workspace)
        return BAD_ARGUMENT;
    const LanguageModel &m = *t->model;
    const int32_t error = check(m);
    if (error) return error;
    for (int64_t i = 0; i < t->given; ++i)
        if (!in_range(t->ids[i], 0, m.V - 1)) return BAD_ID;
    run(t->threads, t->openmp, kernels(m.instructions, m.precision)->read_text, t);
    return OK;
}

int64_t unrolled_interface_bytes(void) {
    return sizeof(Recurrence) + sizeof(Product) + sizeof(AffineGradients) + sizeof(Norms) +
           sizeof(LayerNumbers) + sizeof(LayerWeights) + sizeof(LanguageModel) + sizeof(Text);
}

const char *unrolled_message(int32_t error) {
    switch (error) {
        case OK:
            return "native kernel: done";
        case BAD_ID:
            return "native kernel: an id is negative or not below the size of the vocabulary";
        case NO_SUCH_INSTRUCTIONS:
            return "native kernel: this CPU has no such instructions";
        default:
            return "native kernel: an array that is needed was not given, a size is zero, or there are too "
                   "many threads";
    }
}

int32_t unrolled_has_instructions(int32_t instructions) {
    return kernels(instructions, BFLOAT16) != nullptr;
}
