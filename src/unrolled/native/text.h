// A language model that reads one text, id by id: the step behind every character that is written.
//
// With one text a step multiplies vectors, not matrices. Each weight is read for a single
// multiplication, so the time is that of the way from the cache to the registers, and all that
// counts is how the weights lie there: packed once before the text (panels.h), in whole lines, in
// the order in which they are read. Where a line is not a register's, each is fetched twice,
// and that takes twice as long.
//
// Threads are for weights that exceed a core's second cache: each has its own part in its own
// (measured with 2 MB each: 3 MB take one thread 98 microseconds and two 23, 1 MB takes both 10).
// They meet after every product and after every layer's formula.
#pragma once
#include <cmath>

#include "layer.h"
#include "threads.h"

namespace unrolled {
namespace INSTRUCTIONS {

constexpr size_t SIDE_BY_SIDE = 4;  // panels, of two registers each: 8 sums under way (tile.h)

// out (P COLUMNS) = x (K) times P panels (K, COLUMNS) that follow each other
template <size_t P, class T>
inline void times_panels(size_t K, const T *x, const T *panels, T *out) {
    Vector<T> sum[P][2] = {};
    for (size_t k = 0; k < K; ++k)
#pragma GCC unroll 4
        for (size_t p = 0; p < P; ++p) {
            const T *row = panels + (p * K + k) * COLUMNS<T>;
            sum[p][0] += x[k] * load(row);
            sum[p][1] += x[k] * load(row + LANES<T>);
        }
#pragma GCC unroll 4
    for (size_t p = 0; p < P; ++p) {
        store(out + p * COLUMNS<T>, sum[p][0]);
        store(out + p * COLUMNS<T> + LANES<T>, sum[p][1]);
    }
}

// The same for 1 to SIDE_BY_SIDE panels.
template <class T, size_t P = SIDE_BY_SIDE>
inline void times_some(size_t count, size_t K, const T *x, const T *panels, T *out) {
    if (count == P) return times_panels<P>(K, x, panels, out);
    if constexpr (P > 1) times_some<T, P - 1>(count, K, x, panels, out);
}

template <template <class> class CellOf, class T>
struct Read {
    using V = Vector<T>;
    using Cell = CellOf<T>;
    static constexpr size_t G = Cell::GATES, WIDTH = COLUMNS<T>;

    const LanguageModel &model;
    const size_t H, vocabulary, layers, states;  // states of a layer: h, or h and c
    const size_t units, answers;                 // panels of H units, and of the logits

    Read(const LanguageModel &m)
        : model(m), H(m.H), vocabulary(m.V), layers(m.layers), states(m.cell == LSTM ? 2 : 1),
          units(ceil_div(H, WIDTH)), answers(ceil_div(vocabulary, WIDTH)) {}

    // All matrices of a step, in its order, but for W_x of the first layer: a row is looked up.
    size_t packed_numbers() const {
        return ((2 * layers - 1) * G * units + answers) * H * WIDTH;
    }
    T *packed() const { return Scratch(model.packed).take<T>(packed_numbers()); }
    size_t packed_bytes() const {
        Scratch scratch(nullptr);
        scratch.take<T>(packed_numbers());
        return scratch.bytes();
    }
    void pack_weights() const {
        T *out = packed();
        const auto add = [&](const void *matrix, size_t columns) {
            const Rows<T> rows{nullptr, 0, static_cast<const T *>(matrix), columns};
            for (size_t n = 0; n < columns; n += WIDTH, out += H * WIDTH)
                pack<WIDTH>(rows, false, 0, H, n, smaller(WIDTH, columns - n), out);
        };
        for (size_t l = 0; l < layers; ++l) {
            for (size_t g = 0; g < G; ++g) add(model.layer[l].W_h[g], H);
            for (size_t g = 0; g < G && l > 0; ++g) add(model.layer[l].W_x[g], H);
        }
        add(model.W_hq, vocabulary);
        assert(out == packed() + packed_numbers());
    }

    struct Carved {
        T *products;  // H_{t-1} W_h
        T *inputs;    // X_t W_x above the first layer
        T *logits;
        double *totals;
        size_t bytes;
    };
    Carved carve(void *workspace) const {
        Scratch scratch(workspace);
        Carved c{};
        c.products = scratch.take<T>(G * units * WIDTH);
        c.inputs = scratch.take<T>(G * units * WIDTH);
        c.logits = scratch.take<T>(answers * WIDTH);
        c.totals = scratch.take<double>(vocabulary);
        c.bytes = scratch.bytes();
        return c;
    }

    void read(const Text &text, Team &team) const {
        const Carved c = carve(text.workspace);
        T *state = static_cast<T *>(text.state), *top = state + (layers - 1) * states * H;
        for (size_t t = 0; t < size_t(text.T); ++t) {
            const T *panels = packed();
            for (size_t l = 0; l < layers; ++l) {
                T *h = state + l * states * H;
                panels = times(team, h, G * units, panels, c.products);
                if (l > 0) panels = times(team, h - states * H, G * units, panels, c.inputs);
                step(team, l, l > 0 ? nullptr : text.ids + t, c.inputs, c.products, h);
            }
            if (t + 1 < size_t(text.given)) continue;
            panels = times(team, top, answers, panels, c.logits);
            assert(panels == packed() + packed_numbers());
            team.each(1, [&](size_t) {
                T *biased = static_cast<T *>(text.logits);
                for (size_t v = 0; v < vocabulary; ++v)
                    biased[v] = c.logits[v] + static_cast<const T *>(model.b_q)[v];
                if (t + 1 < size_t(text.T)) text.ids[t + 1] = choose(text, t + 1, biased, c.totals);
            });
        }
    }

    // The id at place t of a text, as functional/sampling.py chooses it.
    int64_t choose(const Text &text, size_t t, const T *logits, double *totals) const {
        size_t best = 0;
        for (size_t v = 1; v < vocabulary && logits[best] == logits[best]; ++v)  // until a NaN
            if (!(logits[v] <= logits[best])) best = v;
        if (!text.uniform) return int64_t(best);
        double total = 0;
        for (size_t v = 0; v < vocabulary; ++v)
            totals[v] = total += std::exp(double(logits[v] - logits[best]) / text.temperature);
        const double u = text.uniform[t - size_t(text.given)];
        size_t drawn = 0;
        while (drawn + 1 < vocabulary && totals[drawn] / total <= u) ++drawn;
        return int64_t(drawn);
    }

    // out = x times `count` panels; returns where the next matrix starts.
    const T *times(Team &team, const T *x, size_t count, const T *panels, T *out) const {
        team.each(ceil_div(count, SIDE_BY_SIDE), [&](size_t i) {
            const size_t p = i * SIDE_BY_SIDE;
            times_some(smaller(SIDE_BY_SIDE, count - p), H, x, panels + p * H * WIDTH,
                       out + p * WIDTH);
        });
        return panels + count * H * WIDTH;
    }

    // The cell's formula, as in a recurrence of a single step that starts and ends in h.
    void step(Team &team, size_t l, const int64_t *id, const T *inputs, const T *products,
              T *h) const {
        const LayerWeights &w = model.layer[l];
        Recurrence r{};
        r.cell = model.cell;
        r.T = r.B = 1;
        r.H = r.input_stride = model.H;
        r.ids = id;
        for (size_t g = 0; g < G; ++g) {
            r.inputs[g] = id ? w.W_x[g] : inputs + g * units * WIDTH;
            r.biases[g] = w.biases[g];
        }
        r.b_hh = w.b_hh;
        r.h0 = r.outputs = h;  // every unit is read before it is written
        r.c0 = r.cells = h + H;
        const Layer<T> layer{r, 1, H, G, nullptr};
        constexpr size_t SHARE = SIDE_BY_SIDE * WIDTH;
        team.each(ceil_div(H, SHARE), [&](size_t i) {
            const size_t end = smaller(H, (i + 1) * SHARE);
            for (size_t unit = i * SHARE; unit < end; unit += LANES<T>) {
                V product[G];
                for (size_t g = 0; g < G; ++g)
                    product[g] = load(products + g * units * WIDTH + unit);
                if (end - unit >= LANES<T>)  // so that the compiler knows a full vector from others
                    Cell::forward(layer, Place{0, 0, unit, LANES<T>}, product);
                else
                    Cell::forward(layer, Place{0, 0, unit, end - unit}, product);
            }
        });
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
