// Elman's cell: H_t = f(A_t + H_{t-1} W_hh), with f = tanh or ReLU.
#pragma once
#include "layer.h"

namespace unrolled {
namespace INSTRUCTIONS {

template <class T>
struct Rnn {
    using V = Vector<T>;
    static constexpr size_t GATES = 1;
    static constexpr bool CARRIES_HIDDEN = false;

    // product[0] = H_{t-1} W_hh
    static INLINE void forward(const Layer<T> &l, const Place &p, const V *product) {
        const V x = l.input(p, 0) + product[0];
        l.put(l.r.outputs, l.hidden(p), p, l.r.cell == RNN_RELU ? relu<T>(x) : tanh<T>(x));
    }

    // Both derivatives follow from the output: tanh' = 1 - H^2; ReLU' = 1 where H > 0.
    static INLINE void backward(const Layer<T> &l, const Place &p, V dH) {
        const V H = l.get(l.r.outputs, l.hidden(p), p);
        const V D = l.r.cell == RNN_RELU ? (H > T(0) ? dH : V{}) : dH * (T(1) - H * H);
        l.put(l.r.D, l.hidden(p), p, D);
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
