// A recurrent layer as its cells see it: arrays with a type, and vectors at a place in them.
#pragma once
#include "activations.h"
#include "interface.h"
#include "panels.h"

namespace unrolled {
namespace INSTRUCTIONS {

// `lanes` neighbouring hidden units of one sequence at one step.
struct Place {
    size_t t, b, unit, lanes;
};

template <class T>
struct Layer {
    using V = Vector<T>;
    const Recurrence &r;
    const size_t B, H, G;
    T *carry;  // (B, H) scratch: what a cell hands from step t to step t - 1 in backward

    // arrays (T, B, H), stacks of gates (T, B, count H), and states (B, H); NULL reads as zeros
    INLINE size_t hidden(const Place &p) const { return (p.t * B + p.b) * H + p.unit; }
    INLINE size_t gate(const Place &p, size_t g, size_t count) const {
        return ((p.t * B + p.b) * count + g) * H + p.unit;
    }
    INLINE size_t state(const Place &p) const { return p.b * H + p.unit; }

    static INLINE V get(const void *array, size_t at, const Place &p) {
        return array ? load(static_cast<const T *>(array) + at, p.lanes) : V{};
    }
    static INLINE void put(void *array, size_t at, const Place &p, V value) {
        store(static_cast<T *>(array) + at, value, p.lanes);
    }

    // what the input contributes to gate g: A_t, or the row of W_x that an id stands for, + bias
    INLINE V input(const Place &p, size_t g) const {
        const size_t k = p.t * B + p.b, row = r.ids ? size_t(r.ids[k]) : k;
        const V A = get(r.inputs[g], row * size_t(r.input_stride) + p.unit, p);
        return r.biases[g] ? A + get(r.biases[g], p.unit, p) : A;
    }
    // a state one step earlier: the initial one (which may be NULL) before the first step
    INLINE V before(const void *array, const void *initial, const Place &p) const {
        return p.t == 0 ? get(initial, state(p), p) : get(array, hidden(p) - B * H, p);
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
