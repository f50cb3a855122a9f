// Gradients of weights: one product for a matrix, one pass over the rows for a bias.
#pragma once
#include "kernels.h"
#include "product.h"
#include "row_sums.h"

namespace unrolled {
namespace INSTRUCTIONS {

// C (M, N) = A B as both below need it, with the threads and the scratch memory of their call:
// A or B transposed, each matrix in one piece.
template <class Call>
Product product_of(const Call &call, int64_t M, int64_t N, int64_t K, const void *A,
                   bool transpose_a, const void *B, bool transpose_b, void *C) {
    Product p{};
    p.precision = call.precision;
    p.threads = call.threads;
    p.workspace = call.workspace;
    p.groups = 1;
    p.M = M, p.N = N, p.K = K;
    p.A = A, p.transpose_a = transpose_a, p.A_stride = transpose_a ? M : K;
    p.B[0] = B, p.transpose_b = transpose_b, p.B_stride = transpose_b ? K : N;
    p.C[0] = C, p.C_stride = N;
    return p;
}

// Of a recurrent layer, from D and dA of all steps: dW_h = sum_t H_{t-1}^T D_t and the others.
template <class E>
struct LayerGradients {
    using T = SumOf<E>;
    const Recurrence &r;
    const size_t B, H, G;
    const size_t skipped;  // rows of H_{t-1} that are zeros, as there is no first state
    const size_t K;        // the others, of all steps

    explicit LayerGradients(const Recurrence &call)
        : r(call), B(size_t(call.B)), H(size_t(call.H)), G(size_t(gates_of(call.cell))),
          skipped(call.h0 ? 0 : B), K(size_t(call.T) * B - skipped) {}

    // All gates at once; the rows of H_{t-1} are h0 and the outputs.
    Product of_W_h() const {
        Product p = product_of(r, r.H, r.H, int64_t(K), r.outputs, true, nullptr, false, nullptr);
        p.groups = int32_t(G);
        p.A_first = r.h0;
        p.split = int64_t(B - skipped);
        p.B_stride = int64_t(G * H);
        return p;
    }

    size_t bytes() const { return r.dW_h[0] && K ? Multiply<E>(of_W_h()).bytes() : 0; }

    void work(Team &team) const {
        const size_t rows = size_t(r.T) * B, width = G * H;
        const T *D = static_cast<const T *>(r.D);
        const T *dA = r.cell == GRU ? static_cast<const T *>(r.dA) : D;
        if (r.dW_h[0] && K) {
            Product product = of_W_h();
            for (size_t g = 0; g < G; ++g) {
                product.B[g] = D + (skipped * G + g) * H;
                product.C[g] = r.dW_h[g];
            }
            Multiply<E>(product).work(team);
        }
        if (r.dW_h[0] && !K)
            team.each(G, [&](size_t g) { std::memset(r.dW_h[g], 0, H * H * sizeof(T)); });
        const int64_t *ids = r.dW_x[0] ? r.ids : nullptr;
        SumRows<T>{dA, rows, G, H, width, r.db, ids, r.dW_x, size_t(r.V)}.work(team);
        if (r.db_hh) SumRows<T>{D + (G - 1) * H, rows, 1, H, width, &r.db_hh}.work(team);
    }
};

// Of an affine map, see interface.h.
template <class E>
struct AffineBack {
    using T = SumOf<E>;
    const AffineGradients &a;
    const Product of_X, of_W;

    explicit AffineBack(const AffineGradients &c)
        : a(c), of_X(product_of(c, c.N, c.D, c.V, c.dY, false, c.W, true, c.dX)),
          of_W(product_of(c, c.D, c.V, c.N, c.X, true, c.dY, false, c.dW)) {}

    size_t bytes() const {
        return larger(Multiply<E>(of_X).bytes(), Multiply<E>(of_W).bytes());
    }

    void work(Team &team) const {
        const size_t N = size_t(a.N), V = size_t(a.V);
        Multiply<E>(of_X).work(team);
        Multiply<E>(of_W).work(team);
        SumRows<T>{static_cast<const T *>(a.dY), N, 1, V, V, &a.db}.work(team);
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
