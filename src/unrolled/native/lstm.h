// Long short-term memory: C_t = F C_{t-1} + I G, H_t = O tanh(C_t), with the gates
// I, F, O = sigmoid(A + H_{t-1} W) and the candidate G = tanh(A + H_{t-1} W).
#pragma once
#include "layer.h"

namespace unrolled {
namespace INSTRUCTIONS {

template <class T>
struct Lstm {
    using V = Vector<T>;
    static constexpr size_t GATES = 4;
    static constexpr bool CARRIES_HIDDEN = false;

    static INLINE void forward(const Layer<T> &l, const Place &p, const V *product) {
        const V I = sigmoid<T>(l.input(p, 0) + product[0]);
        const V F = sigmoid<T>(l.input(p, 1) + product[1]);
        const V O = sigmoid<T>(l.input(p, 2) + product[2]);
        const V G = tanh<T>(l.input(p, 3) + product[3]);
        const V C = F * l.before(l.r.cells, l.r.c0, p) + I * G;
        l.put(l.r.cells, l.hidden(p), p, C);
        l.put(l.r.outputs, l.hidden(p), p, O * tanh<T>(C));
        if (!l.r.gates) return;
        l.put(l.r.gates, l.gate(p, 0, 4), p, I);
        l.put(l.r.gates, l.gate(p, 1, 4), p, F);
        l.put(l.r.gates, l.gate(p, 2, 4), p, O);
        l.put(l.r.gates, l.gate(p, 3, 4), p, G);
    }

    // D may be the array of the gates itself: each place is read before it is written.
    static INLINE void backward(const Layer<T> &l, const Place &p, V dH) {
        const V I = l.get(l.r.gates, l.gate(p, 0, 4), p), F = l.get(l.r.gates, l.gate(p, 1, 4), p);
        const V O = l.get(l.r.gates, l.gate(p, 2, 4), p), G = l.get(l.r.gates, l.gate(p, 3, 4), p);
        const V tanh_C = tanh<T>(l.get(l.r.cells, l.hidden(p), p));
        const V C_before = l.before(l.r.cells, l.r.c0, p);

        const V from_later = p.t + 1 == size_t(l.r.T) ? l.get(l.r.d_c, l.state(p), p)
                                                      : l.get(l.carry, l.state(p), p);
        const V dC = from_later + dH * O * (T(1) - tanh_C * tanh_C);
        l.put(l.r.D, l.gate(p, 0, 4), p, dC * G * I * (T(1) - I));
        l.put(l.r.D, l.gate(p, 1, 4), p, dC * C_before * F * (T(1) - F));
        l.put(l.r.D, l.gate(p, 2, 4), p, dH * tanh_C * O * (T(1) - O));
        l.put(l.r.D, l.gate(p, 3, 4), p, dC * I * (T(1) - G * G));
        l.put(l.carry, l.state(p), p, dC * F);  // at C_{t-1}
        if (p.t == 0 && l.r.d_c0) l.put(l.r.d_c0, l.state(p), p, dC * F);
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
