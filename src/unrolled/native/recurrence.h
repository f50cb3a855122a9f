// A recurrent layer over time: one fused step, T times, forward and backward.
//
// A step is a product, H_{t-1} W_h forward and D_{t+1} W_h^T backward, and the cell's formula on
// its result. Both are done block by block: while a block of products is still in the first
// cache, the cell turns it into hidden states, or into gradients.
//
// Threads share the blocks in one of two ways:
// - by sequences, if there are enough: each thread carries its own over all steps and waits for
//   nobody. But each then reads all weights at every step.
// - by units, if the weights are larger than a core's caches: each thread reads its part of them.
//   The threads meet once a step, because the next product needs all of this step's result, and
//   half of that comes out of the other core's cache (measured: a tenth of the time at H = 512,
//   a third at H = 256).
//
// Backward goes from the last step to the first:
//     dL/dH_t = dL/dH_t from outside + D_{t+1} W_h^T (+ what the cell carries),
// and the cell makes D_t of it. The gradient of W_h waits: once all D_t are there it is one
// product over all steps (product.h), much faster than T small ones.
#pragma once
#include "layer.h"
#include "threads.h"

namespace unrolled {
namespace INSTRUCTIONS {

// Rows of the batch whose sums stay in the first cache. A multiple of ROWS, so that a block which
// is rounded up to whole tiles still fits the buffers of this size.
constexpr size_t BLOCK_ROWS = ceil_div(32, ROWS) * ROWS;
static_assert(BLOCK_ROWS % ROWS == 0, "blocks are rounded up to whole tiles of ROWS rows");
template <class E>
constexpr size_t BLOCK_NUMBERS = BLOCK_ROWS * COLUMNS<E>;  // sums of one block and one gate
constexpr size_t STRETCH_BYTES = 64 * 1024;  // of a panel, in the second, while the rows pass by

// out (rows, COLUMNS) = or += A (rows, K) panel (K, COLUMNS), K stretch by stretch.
template <class E>
inline void multiply(size_t rows, size_t K, const E *A, size_t row, const E *panel, SumOf<E> *out,
                     bool add) {
    constexpr size_t STRETCH = STRETCH_BYTES / sizeof(E) / COLUMNS<E>;
    for (size_t k = 0; k < K; k += STRETCH) {
        const size_t steps = smaller(STRETCH, K - k);
        const E *stretch = panel + k * COLUMNS<E>;
        const size_t tiles = ceil_div(rows, ROWS);  // even ones: a small last one would wait
        for (size_t j = 0; j < tiles; ++j) {
            const size_t i = rows * j / tiles, end = rows * (j + 1) / tiles;
            tile_of<BY_ROWS>(end - i, steps, A + i * row + k, row, stretch, out + i * COLUMNS<E>,
                             COLUMNS<E>, add || k > 0);
        }
    }
}

template <template <class> class CellOf, class E>
struct Recur {
    using T = SumOf<E>;
    using V = Vector<T>;
    using Cell = CellOf<T>;
    static constexpr size_t G = Cell::GATES, WIDTH = COLUMNS<E>;
    static constexpr bool CONVERTS = sizeof(E) != sizeof(T) || Sum<E>::DEPTH > 1;

    const Recurrence &r;
    const size_t B, H, K, panels;  // panels of units
    const bool apart;              // whether each thread has sequences of its own
    const size_t block, blocks;    // rows of the batch in one, and how many of these
    E *weights;   // (panels, G, K, WIDTH)
    E *operands;  // (2, B, G, K): what is multiplied, for even and odd t, if it is not float
    Layer<T> layer;

    Recur(const Recurrence &call)
        : r(call), B(call.B), H(call.H), K(depth<E>(H)), panels(ceil_div(H, WIDTH)),
          apart(B >= ROWS * size_t(call.threads) &&
                panels * G * K * WIDTH * sizeof(E) <= 2 * second_cache_bytes()),
          block(block_rows(size_t(call.threads))), blocks(ceil_div(B, block)),
          layer{call, B, H, G, nullptr} {
        assert(block <= BLOCK_ROWS && block % ROWS == 0);
        Scratch scratch(call.workspace);
        weights = scratch.take<E>(panels * G * K * WIDTH);
        operands = scratch.take<E>(CONVERTS ? 2 * B * G * K : 0);
        layer.carry = scratch.take<T>(B * H);
        bytes = scratch.bytes();
    }
    size_t bytes;

    // With sequences apart, as many blocks as threads, or a multiple. Else blocks are large, but
    // if there are more threads than panels, smaller ones give them something to do.
    size_t block_rows(size_t threads) const {
        if (!apart) return panels * ceil_div(B, BLOCK_ROWS) < threads ? ROWS : BLOCK_ROWS;
        const size_t blocks = ceil_div(B, threads * BLOCK_ROWS) * threads;
        return ceil_div(ceil_div(B, blocks), ROWS) * ROWS;
    }

    // --- what is multiplied: the hidden states before, or the gradients after ---
    struct Left {
        const E *first;       // of gate 0
        size_t gate, row;     // distance from gate to gate, from sequence to sequence
    };
    E *operand(size_t t) const { return operands + (t & 1) * B * G * K; }
    Left left(size_t t, const void *array, size_t count) const {
        if constexpr (CONVERTS) return {operand(t), K, G * K};
        return {reinterpret_cast<const E *>(array), H, count * H};
    }
    // The units [unit, unit + n) of one sequence, rounded for the next products.
    void convert(size_t t, size_t b, size_t g, size_t unit, size_t n, const T *from) const {
        if constexpr (CONVERTS) {
            E *to = operand(t) + (b * G + g) * K + unit / Sum<E>::DEPTH;
            elements(from, n, to);
        }
    }

    void pack_weights(Team &team, bool transposed) const {
        team.each(panels * G, [&](size_t i) {
            const size_t g = i % G, unit = i / G * WIDTH;
            const Rows<T> W{nullptr, 0, static_cast<const T *>(r.W_h[g]), H};
            pack<WIDTH>(W, transposed, 0, H, unit, smaller(WIDTH, H - unit),
                        weights + i * K * WIDTH);
        });
    }

    // Calls step(t, panel, first row, rows) for every block of every time step, from the first
    // step to the last or back, shared by the threads.
    template <class Step>
    void each_step(Team &team, bool back, Step step) const {
        const size_t T_ = size_t(r.T);
        const auto rows = [&](size_t row) { return smaller(block, B - row); };
        if (apart) {
            team.each(blocks, [&](size_t i) {
                for (size_t n = 0; n < T_; ++n)
                    for (size_t panel = 0; panel < panels; ++panel)
                        step(back ? T_ - 1 - n : n, panel, i * block, rows(i * block));
            });
            return;
        }
        for (size_t n = 0; n < T_; ++n) {
            const size_t t = back ? T_ - 1 - n : n;
            each_block(team, [&](size_t panel, size_t row) { step(t, panel, row, rows(row)); });
        }
    }
    template <class Block>
    void each_block(Team &team, Block at) const {
        team.each(panels * blocks, [&](size_t i) { at(i / blocks, i % blocks * block); });
    }

    // Calls at(place) for every vector of a block.
    template <class At>
    INLINE void places(size_t t, size_t panel, size_t row, size_t rows, At at) const {
        const size_t unit = panel * WIDTH, n = smaller(WIDTH, H - unit);
        for (size_t i = 0; i < rows; ++i)
            for (size_t j = 0; j < n; j += LANES<T>)
                if (n - j >= LANES<T>)  // so that the compiler knows a full vector from others
                    at(Place{t, row + i, unit + j, LANES<T>}, i * WIDTH + j);
                else
                    at(Place{t, row + i, unit + j, n - j}, i * WIDTH + j);
    }

    void forward(Team &team) const {
        pack_weights(team, false);
        if (CONVERTS && r.h0)
            team.each(B, [&](size_t b) {
                convert(size_t(-1), b, 0, 0, H, static_cast<const T *>(r.h0) + b * H);
            });
        each_step(team, false, [&](size_t t, size_t panel, size_t row, size_t rows) {
            T *outputs = static_cast<T *>(r.outputs) + t * B * H;
            const T *H_before = t ? outputs - B * H : static_cast<const T *>(r.h0);
            const Left A = left(t - 1, H_before, 1);
            alignas(LINE) T products[G][BLOCK_NUMBERS<E>];
            for (size_t g = 0; g < G; ++g) {
                if (H_before)
                    multiply(rows, K, A.first + row * A.row, A.row,
                             weights + (panel * G + g) * K * WIDTH, products[g], false);
                else
                    std::memset(products[g], 0, rows * WIDTH * sizeof(T));
            }
            places(t, panel, row, rows, [&](const Place &p, size_t at) ALWAYS_INLINE {
                V product[G];
                for (size_t g = 0; g < G; ++g) product[g] = load(products[g] + at);
                Cell::forward(layer, p, product);
            });
            const size_t unit = panel * WIDTH;
            for (size_t b = row; b < row + rows; ++b)
                convert(t, b, 0, unit, smaller(WIDTH, H - unit), outputs + b * H + unit);
        });
    }

    void backward(Team &team) const {
        pack_weights(team, true);
        const size_t last = size_t(r.T) - 1;
        each_step(team, true, [&](size_t t, size_t panel, size_t row, size_t rows) {
            T *D = static_cast<T *>(r.D) + t * B * G * H;
            const void *direct = t == last ? r.d_h : Cell::CARRIES_HIDDEN ? layer.carry : nullptr;
            alignas(LINE) T products[BLOCK_NUMBERS<E>];
            from_step_after(t + 1, t < last, panel, row, rows, products);
            places(t, panel, row, rows, [&](const Place &p, size_t at) ALWAYS_INLINE {
                const V dH = load(products + at) + layer.get(direct, layer.state(p), p) +
                             layer.get(r.d_outputs, layer.hidden(p), p);
                if (r.dH) layer.put(r.dH, layer.hidden(p), p, dH);
                Cell::backward(layer, p, dH);
            });
            const size_t unit = panel * WIDTH;
            for (size_t b = row; b < row + rows; ++b)
                for (size_t g = 0; g < G; ++g)
                    convert(t, b, g, unit, smaller(WIDTH, H - unit), D + (b * G + g) * H + unit);
        });
        if (!r.d_h0) return;
        each_block(team, [&](size_t panel, size_t row) {
            const size_t rows = smaller(block, B - row);
            alignas(LINE) T products[BLOCK_NUMBERS<E>];
            from_step_after(0, true, panel, row, rows, products);
            places(0, panel, row, rows, [&](const Place &p, size_t at) ALWAYS_INLINE {
                const void *direct = Cell::CARRIES_HIDDEN ? layer.carry : nullptr;
                layer.put(r.d_h0, layer.state(p), p,
                          load(products + at) + layer.get(direct, layer.state(p), p));
            });
        });
    }

    // products (rows, WIDTH) = D_t W_h^T, summed over the gates
    void from_step_after(size_t t, bool exists, size_t panel, size_t row, size_t rows,
                         T *products) const {
        if (!exists) {
            std::memset(products, 0, rows * WIDTH * sizeof(T));
            return;
        }
        const Left A = left(t, static_cast<const T *>(r.D) + t * B * G * H, G);
        for (size_t g = 0; g < G; ++g)
            multiply(rows, K, A.first + g * A.gate + row * A.row, A.row,
                     weights + (panel * G + g) * K * WIDTH, products, g > 0);
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
