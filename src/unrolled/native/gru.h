// Gated recurrent unit, reset after the product (the form of cuDNN and the frameworks):
// Z, R = sigmoid(A + H_{t-1} W),  C = tanh(A + R N) with N = H_{t-1} W_hh + b_hh,
// H_t = Z H_{t-1} + (1 - Z) C.
#pragma once
#include "layer.h"

namespace unrolled {
namespace INSTRUCTIONS {

template <class T>
struct Gru {
    using V = Vector<T>;
    static constexpr size_t GATES = 3;
    static constexpr bool CARRIES_HIDDEN = true;  // dL/dH_t reaches H_{t-1} through Z as well

    static INLINE void forward(const Layer<T> &l, const Place &p, const V *product) {
        const V Z = sigmoid<T>(l.input(p, 0) + product[0]);
        const V R = sigmoid<T>(l.input(p, 1) + product[1]);
        const V N = product[2] + l.get(l.r.b_hh, p.unit, p);
        const V C = tanh<T>(l.input(p, 2) + R * N);
        const V H_before = l.before(l.r.outputs, l.r.h0, p);
        l.put(l.r.outputs, l.hidden(p), p, C + Z * (H_before - C));
        if (!l.r.gates) return;
        l.put(l.r.gates, l.gate(p, 0, 4), p, Z);
        l.put(l.r.gates, l.gate(p, 1, 4), p, R);
        l.put(l.r.gates, l.gate(p, 2, 4), p, C);
        l.put(l.r.gates, l.gate(p, 3, 4), p, N);
    }

    static INLINE void backward(const Layer<T> &l, const Place &p, V dH) {
        const V Z = l.get(l.r.gates, l.gate(p, 0, 4), p), R = l.get(l.r.gates, l.gate(p, 1, 4), p);
        const V C = l.get(l.r.gates, l.gate(p, 2, 4), p), N = l.get(l.r.gates, l.gate(p, 3, 4), p);
        const V H_before = l.before(l.r.outputs, l.r.h0, p);

        const V dZ = dH * (H_before - C) * Z * (T(1) - Z);
        const V dC = dH * (T(1) - Z) * (T(1) - C * C);
        const V dR = dC * N * R * (T(1) - R);
        l.put(l.r.D, l.gate(p, 0, 3), p, dZ);
        l.put(l.r.D, l.gate(p, 1, 3), p, dR);
        l.put(l.r.D, l.gate(p, 2, 3), p, dC * R);  // at N, the product
        l.put(l.r.dA, l.gate(p, 0, 3), p, dZ);
        l.put(l.r.dA, l.gate(p, 1, 3), p, dR);
        l.put(l.r.dA, l.gate(p, 2, 3), p, dC);
        l.put(l.carry, l.state(p), p, dH * Z);  // at H_{t-1}, beside the products
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
