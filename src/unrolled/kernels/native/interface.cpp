// The C functions: check what was given, find the CPU's kernels, start the threads.
#include "interface.h"

#include "kernels.h"

namespace unrolled {
namespace {

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
const Kernels *kernels(int instructions) {
    if (!cpu_has(instructions)) return nullptr;
    switch (instructions) {
#ifdef HAS_avx512_bf16
        case AVX512_BF16:
            return &avx512_bf16::KERNELS;
#endif
#ifdef HAS_avx512
        case AVX512:
            return &avx512::KERNELS;
#endif
#ifdef HAS_avx2
        case AVX2:
            return &avx2::KERNELS;
#endif
        case PORTABLE:
            return &portable::KERNELS;
        default:
            return nullptr;
    }
}

int32_t check(const Recurrence &r, bool backward) {
    const int gates = gates_of(r.cell);
    if (!in_range(r.cell, RNN, LSTM) || !in_range(r.precision, FLOAT32, BFLOAT16) ||
        r.threads < 1 || r.T < 1 || r.B < 1 || r.H < 1 || !r.outputs ||
        (r.cell == LSTM && !r.cells) || !r.workspace)
        return BAD_ARGUMENT;
    for (int g = 0; g < gates; ++g) {
        if (!r.W_h[g] || (!backward && !r.inputs[g])) return BAD_ARGUMENT;
        if (backward && (!r.dW_h[g] != !r.dW_h[0] || !r.dW_x[g] != !r.dW_x[0])) return BAD_ARGUMENT;
    }
    if (backward && (!r.D || (r.cell >= GRU && !r.gates) || (r.cell == GRU && !r.dA) ||
                     (r.cell != GRU && r.db_hh) || (r.dW_x[0] && !r.ids)))
        return BAD_ARGUMENT;
    if (r.ids && (!backward || r.dW_x[0])) {
        for (int64_t k = 0; k < r.T * r.B; ++k)
            if (r.ids[k] < 0 || r.ids[k] >= r.V) return BAD_ID;
    }
    return OK;
}

int32_t recur(const Recurrence *r, bool backward) {
    const int32_t error = check(*r, backward);
    if (error) return error;
    const Kernels *k = kernels(r->instructions);
    if (!k) return NO_SUCH_INSTRUCTIONS;
    run(r->threads, r->openmp, backward ? k->backward : k->forward, r);
    return OK;
}

int32_t check(const LanguageModel &m) {
    const int gates = gates_of(m.cell);
    if (!in_range(m.cell, RNN, LSTM) || !in_range(m.precision, FLOAT32, FLOAT64) ||
        m.layers < 1 || m.H < 1 || m.V < 1 || !m.layer || !m.W_hq || !m.b_q || !m.packed)
        return BAD_ARGUMENT;
    for (int32_t l = 0; l < m.layers; ++l)
        for (int g = 0; g < gates; ++g)
            if (!m.layer[l].W_x[g] || !m.layer[l].W_h[g]) return BAD_ARGUMENT;
    return kernels(m.instructions) ? OK : NO_SUCH_INSTRUCTIONS;
}

}  // namespace
}  // namespace unrolled

using namespace unrolled;

int32_t unrolled_forward(const Recurrence *r) { return recur(r, false); }
int32_t unrolled_backward(const Recurrence *r) { return recur(r, true); }

int64_t unrolled_forward_workspace(const Recurrence *r) {
    const Kernels *k = kernels(r->instructions);
    return k ? int64_t(k->forward_bytes(*r)) : -1;
}
int64_t unrolled_backward_workspace(const Recurrence *r) {
    const Kernels *k = kernels(r->instructions);
    return k ? int64_t(k->backward_bytes(*r)) : -1;
}

int32_t unrolled_product(const Product *p) {
    if (!in_range(p->precision, FLOAT32, BFLOAT16) || p->threads < 1 || p->M < 1 || p->N < 1 ||
        p->K < 1 || !in_range(p->groups, 1, 4) || !p->A || !p->workspace ||
        (p->split > 0 && !p->A_first))
        return BAD_ARGUMENT;
    for (int g = 0; g < p->groups; ++g)
        if (!p->B[g] || !p->C[g]) return BAD_ARGUMENT;
    const Kernels *k = kernels(p->instructions);
    if (!k) return NO_SUCH_INSTRUCTIONS;
    run(p->threads, p->openmp, k->product, p);
    return OK;
}

int64_t unrolled_product_workspace(const Product *p) {
    const Kernels *k = kernels(p->instructions);
    return k ? int64_t(k->product_bytes(*p)) : -1;
}

int32_t unrolled_affine_backward(const AffineGradients *a) {
    if (!in_range(a->precision, FLOAT32, BFLOAT16) || a->threads < 1 || a->N < 1 || a->D < 1 ||
        a->V < 1 || !a->X || !a->W || !a->dY || !a->dX || !a->dW || !a->db || !a->workspace)
        return BAD_ARGUMENT;
    const Kernels *k = kernels(a->instructions);
    if (!k) return NO_SUCH_INSTRUCTIONS;
    run(a->threads, a->openmp, k->affine_backward, a);
    return OK;
}

int64_t unrolled_affine_backward_workspace(const AffineGradients *a) {
    const Kernels *k = kernels(a->instructions);
    return k ? int64_t(k->affine_backward_bytes(*a)) : -1;
}

int32_t unrolled_norms(const Norms *n) {
    if (!in_range(n->precision, FLOAT32, FLOAT64) || n->threads < 1 || n->count < 1 || !n->a ||
        !n->sizes || !n->norms || !n->workspace)
        return BAD_ARGUMENT;
    for (int64_t i = 0; i < n->count; ++i)
        if (n->sizes[i] < 0 || (n->sizes[i] && (!n->a[i] || (n->b && !n->b[i])))) return BAD_ARGUMENT;
    const Kernels *k = kernels(n->instructions);
    if (!k) return NO_SUCH_INSTRUCTIONS;
    run(n->threads, n->openmp, k->norms, n);
    return OK;
}

int64_t unrolled_norms_workspace(const Norms *n) {
    const Kernels *k = kernels(n->instructions);
    return k ? int64_t(k->norms_bytes(*n)) + 1 : -1;  // of empty arrays, too, it is no NULL
}

int32_t unrolled_layer_numbers(const LayerNumbers *l) {
    if (!in_range(l->precision, FLOAT32, FLOAT64) || l->threads < 1 || l->T < 1 || l->B < 1 ||
        l->H < 1 || l->G < 1 || !l->dH || !l->D || !l->after || !l->numbers || !l->workspace)
        return BAD_ARGUMENT;
    const Kernels *k = kernels(l->instructions);
    if (!k) return NO_SUCH_INSTRUCTIONS;
    run(l->threads, l->openmp, k->layer_numbers, l);
    return OK;
}

int64_t unrolled_layer_numbers_workspace(const LayerNumbers *l) {
    return l->T * int64_t(sizeof(int64_t));
}

int32_t unrolled_pack(const LanguageModel *m) {
    const int32_t error = check(*m);
    if (!error) kernels(m->instructions)->pack_model(*m);
    return error;
}

int64_t unrolled_packed_bytes(const LanguageModel *m) {
    const Kernels *k = kernels(m->instructions);
    return k ? int64_t(k->packed_bytes(*m)) : -1;
}

int32_t unrolled_read_threads(const LanguageModel *m) {
    const int64_t filled = unrolled_packed_bytes(m) / int64_t(second_cache_bytes()) + 1;
    return int32_t(filled < openmp_threads() ? filled : openmp_threads());
}

int32_t unrolled_read(const Text *t) {
    if (!t->model || t->threads < 1 || t->T < 1 || !in_range(t->given, 1, t->T) || !t->ids ||
        (t->uniform && !(t->temperature > 0)) || !t->state || !t->logits || !t->workspace)
        return BAD_ARGUMENT;
    const int32_t error = check(*t->model);
    if (error) return error;
    for (int64_t i = 0; i < t->given; ++i)
        if (!in_range(t->ids[i], 0, t->model->V - 1)) return BAD_ID;
    run(t->threads, t->openmp, kernels(t->model->instructions)->read_text, t);
    return OK;
}

int64_t unrolled_read_workspace(const LanguageModel *m) {
    const Kernels *k = kernels(m->instructions);
    return k ? int64_t(k->read_bytes(*m)) : -1;
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
            return "native kernel: an array that is needed was not given, or a size is zero";
    }
}

int32_t unrolled_has_instructions(int32_t instructions) { return kernels(instructions) != nullptr; }
