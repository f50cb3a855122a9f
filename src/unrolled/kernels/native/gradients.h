// Gradients of weights: one product for a matrix, one pass over the rows for a bias.
#pragma once
#include "product.h"
#include "row_sums.h"

namespace unrolled {
namespace INSTRUCTIONS {

// What both below give to a product.
template <class Call>
Product product_of(const Call &call) {
    Product p{};
    p.precision = call.precision;
    p.threads = call.threads;
    p.workspace = call.workspace;
    p.groups = 1;
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
    const Product product;

    LayerGradients(const Recurrence &call, size_t gates)
        : r(call), B(size_t(call.B)), H(size_t(call.H)), G(gates), skipped(call.h0 ? 0 : B),
          K(size_t(call.T) * B - skipped), product(of_W_h()) {}

    Product of_W_h() const {
        Product p = product_of(r);
        p.transpose_a = 1;
        p.groups = int32_t(G);
        p.M = p.N = r.H;
        p.K = int64_t(K);
        p.A_first = r.h0;
        p.split = int64_t(B - skipped);
        p.A = r.outputs;
        p.A_stride = p.C_stride = r.H;
        p.B_stride = int64_t(G * H);
        for (size_t g = 0; g < G; ++g) {
            p.B[g] = static_cast<const T *>(r.D) + (skipped * G + g) * H;
            p.C[g] = r.dW_h[g];
        }
        return p;
    }

    size_t bytes() const { return r.dW_h[0] && K ? Multiply<E>(product).bytes : 0; }

    void work(Team &team) const {
        const size_t rows = size_t(r.T) * B, width = G * H;
        const T *D = static_cast<const T *>(r.D);
        const T *dA = r.cell == GRU ? static_cast<const T *>(r.dA) : D;
        if (r.dW_h[0] && K) Multiply<E>(product).work(team);
        if (r.dW_h[0] && !K)
            team.each(G, [&](size_t g) { std::memset(r.dW_h[g], 0, H * H * sizeof(T)); });
        if (r.db[0] || r.db[1] || r.db[2] || r.db[3] || r.dW_x[0])
            SumRows<T>{dA, rows, G, H, width, r.db, r.dW_x[0] ? r.ids : nullptr, r.dW_x,
                       size_t(r.V)}.work(team);
        if (r.db_hh) SumRows<T>{D + (G - 1) * H, rows, 1, H, width, &r.db_hh}.work(team);
    }
};

// Of an affine map, see interface.h.
template <class E>
struct AffineBack {
    using T = SumOf<E>;
    const AffineGradients &a;
    const Product of_X, of_W;

    AffineBack(const AffineGradients &call) : a(call), of_X(dX()), of_W(dW()) {}

    Product dX() const {
        Product p = product_of(a);
        p.transpose_b = 1;
        p.M = a.N, p.N = a.D, p.K = a.V;
        p.A = a.dY, p.A_stride = a.V;
        p.B[0] = a.W, p.B_stride = a.V;
        p.C[0] = a.dX, p.C_stride = a.D;
        return p;
    }
    Product dW() const {
        Product p = product_of(a);
        p.transpose_a = 1;
        p.M = a.D, p.N = a.V, p.K = a.N;
        p.A = a.X, p.A_stride = a.D;
        p.B[0] = a.dY, p.B_stride = a.V;
        p.C[0] = a.dW, p.C_stride = a.V;
        return p;
    }

    size_t bytes() const {
        const size_t x = Multiply<E>(of_X).bytes, w = Multiply<E>(of_W).bytes;
        return x > w ? x : w;
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
