// The C interface of the native kernels: all that a caller needs to know.
//
// Letters: T steps, B batch, H hidden units, G gates (RNN 1, GRU 3, LSTM 4), V vocabulary.
// Arrays are row-major and contiguous. What belongs to the gates is stacked on the last axis,
// in the order of functional/recurrent.py: RNN [h], GRU [z, r, h], LSTM [i, f, o, c].
//
// Nothing here allocates, keeps state between calls, or touches a global setting. Every
// array belongs to the caller, the scratch memory ("workspace") too. Every function returns 0,
// or one of the error codes below.
//
// A call has `threads` threads: with `openmp` those of the process's OpenMP, if there is one in
// it, which is right where the caller's framework computes on them; else its own, ended with it.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {

enum { OK = 0, BAD_ARGUMENT = 1, BAD_ID = 2, NO_SUCH_INSTRUCTIONS = 3 };
enum { RNN = 0, RNN_RELU = 1, GRU = 2, LSTM = 3 };

// float32, float64, or float32 arrays whose products are taken in bfloat16 (sums in float32)
enum { FLOAT32 = 0, FLOAT64 = 1, BFLOAT16 = 2 };

// From the most portable to the fastest. AVX512_BF16 has products of bfloat16 in hardware.
enum { PORTABLE = 0, AVX2 = 1, AVX512 = 2, AVX512_BF16 = 3 };

// A recurrent layer over T steps, forward and backward. A pointer may be NULL where it says so.
typedef struct {
    int32_t cell, precision, instructions, threads, openmp, reserved;
    int64_t T, B, H, V;  // V only counts with ids

    // What the input contributes to gate g at row k = t B + b:
    // inputs[g][row(k) * input_stride + unit] + biases[g][unit], with row(k) = ids[k] or k.
    const void *inputs[4];
    int64_t input_stride;
    const int64_t *ids;     // (T, B), or NULL; backward reads them for dW_x
    const void *biases[4];  // (H) each, or NULL

    const void *W_h[4];  // (H, H) each
    const void *b_hh;    // (H), GRU only, or NULL for zeros
    const void *h0;      // (B, H), or NULL for zeros
    const void *c0;      // (B, H), LSTM only, or NULL for zeros

    // What forward writes and backward reads.
    void *outputs;  // (T, B, H)
    void *cells;    // (T, B, H), LSTM
    void *gates;    // LSTM (T, B, 4H); GRU (T, B, 4H): z, r, candidate, H W_hh + b_hh.
                    // NULL in forward: not kept, and backward cannot follow

    // What backward reads: gradients of the loss. NULL for zeros.
    const void *d_outputs;  // (T, B, H)
    const void *d_h;        // (B, H), of the last hidden state
    const void *d_c;        // (B, H), of the last cell state

    // What backward writes.
    void *D;     // (T, B, G H), at the recurrent products H_{t-1} W_h
    void *dA;    // (T, B, G H), at the input side; GRU only, for the others it equals D
    void *dH;    // (T, B, H), total gradient of every hidden state, or NULL
    void *d_h0;  // (B, H), or NULL
    void *d_c0;  // (B, H), or NULL

    // ... and what it sums up over all steps, NULL for what nobody asks for.
    void *dW_h[4];  // (H, H) each
    void *dW_x[4];  // (V, H) each, of the rows that were looked up; needs ids
    void *db[4];    // (H) each
    void *db_hh;    // (H), GRU only

    void *workspace;  // workspace_bytes of the call below, any alignment
} Recurrence;

int32_t unrolled_forward(const Recurrence *r);
int32_t unrolled_backward(const Recurrence *r);
int64_t unrolled_forward_workspace(const Recurrence *r);
int64_t unrolled_backward_workspace(const Recurrence *r);

// A matrix product with several right-hand sides, C_g = A B_g (+ bias, or + C_g), where
// A is (M, K) and every B_g (K, N). The rows of A as stored may lie in two arrays: the first
// `split` in A_first, the others in A. So H_{t-1} of all steps is h0 and the outputs, as they are.
typedef struct {
    int32_t precision, instructions, threads, openmp;
    int32_t transpose_a;  // A is stored as (K, M)
    int32_t transpose_b;  // every B_g is stored as (N, K)
    int32_t groups;       // 1 to 4
    int32_t accumulate;   // C_g += ... instead of C_g = ...
    int64_t M, N, K;
    const void *A_first;
    int64_t split;
    const void *A;
    int64_t A_stride;  // from a row to the next
    const void *B[4];
    int64_t B_stride;
    const void *bias;  // (N), or NULL; every row of C_g starts with it
    void *C[4];
    int64_t C_stride;
    void *workspace;
} Product;

int32_t unrolled_product(const Product *p);
int64_t unrolled_product_workspace(const Product *p);

// The backward pass through an affine map Y = X W + b.
typedef struct {
    int32_t precision, instructions, threads, openmp;
    int64_t N, D, V;
    const void *X;   // (N, D)
    const void *W;   // (D, V)
    const void *dY;  // (N, V), gradient of the loss
    void *dX;        // (N, D), written: dY W^T
    void *dW;        // (D, V), written: X^T dY
    void *db;        // (V), written: the sum of dY over its rows
    void *workspace;
} AffineGradients;

int32_t unrolled_affine_backward(const AffineGradients *a);
int64_t unrolled_affine_backward_workspace(const AffineGradients *a);

// L2 norms of arrays, or of differences of arrays.
typedef struct {
    int32_t precision, instructions, threads, openmp;
    int64_t count;
    const void *const *a;
    const void *const *b;  // norms of a - b; NULL for norms of a
    const int64_t *sizes;
    void *norms;  // (count), double
    void *workspace;
} Norms;

int32_t unrolled_norms(const Norms *n);
int64_t unrolled_norms_workspace(const Norms *n);

// What telemetry records of a recurrent layer; formulas in telemetry/through_time.py.
typedef struct {
    int32_t precision, instructions, threads, openmp;
    int32_t relu, reserved;
    int64_t T, B, H, G;
    double limit;        // a unit is saturated above it, |h| > limit; a ReLU's is unless h > limit
    const void *dH;      // (T, B, H), total gradient of every hidden state
    const void *D;       // (T, B, G H), gradient at the recurrent products
    const void *after;   // (T, B, H), hidden states
    const void *before;  // (T, B, H), those before every step; or NULL: `first`, then `after`
    const void *first;   // (B, H), or NULL for zeros
    void *numbers;  // (3 T + 1): for every step the mean of ||dL/dH_t|| over the batch; the largest;
                    // the norm of the step's part of dL/dW_h; then the share of saturated units
    void *workspace;
} LayerNumbers;

int32_t unrolled_layer_numbers(const LayerNumbers *l);
int64_t unrolled_layer_numbers_workspace(const LayerNumbers *l);

// One layer of a language model.
typedef struct {
    const void *W_x[4];     // (V, H) each in the first layer, whose rows are looked up; then (H, H)
    const void *W_h[4];     // (H, H) each
    const void *biases[4];  // (H) each, or NULL
    const void *b_hh;       // (H), GRU only, or NULL for zeros
} LayerWeights;

// A model that reads texts, id by id. It is packed once; then many texts may be read, and the
// matrices, but for the first W_x, are not looked at again.
typedef struct {
    int32_t cell, precision, instructions, layers;  // precision FLOAT32 or FLOAT64
    int64_t H, V;
    const LayerWeights *layer;  // `layers` of them, from the ids up
    const void *W_hq;           // (H, V)
    const void *b_q;            // (V)
    void *packed;               // packed_bytes of the call below, any alignment
} LanguageModel;

int32_t unrolled_pack(const LanguageModel *m);
int64_t unrolled_packed_bytes(const LanguageModel *m);

// How many threads a step is worth: one for every second cache that the weights fill, but not more
// than the OpenMP in the process has; 1 where there is none.
int32_t unrolled_read_threads(const LanguageModel *m);

// The next T ids of one text: some that are given, then some that are chosen, each by the logits
// after the one before. The likeliest is chosen, of equals the first; or, with `uniform`, one is
// drawn by a number in [0, 1) as functional/sampling.py draws.
typedef struct {
    const LanguageModel *model;
    int32_t threads, openmp;
    int64_t T, given;       // 1 to T are given
    int64_t *ids;           // (T), the chosen ones are written
    const double *uniform;  // (T - given), or NULL
    double temperature;     // above 0, with `uniform`
    void *state;      // (layers, H) of every h; LSTM (layers, 2, H), h and c. Read, then written
    void *logits;     // (V), written: after the last of the ids
    void *workspace;  // read_workspace of the call below, any alignment
} Text;

int32_t unrolled_read(const Text *t);
int64_t unrolled_read_workspace(const LanguageModel *m);

// Bytes of all structures, so that a caller can tell whether it means the same ones.
int64_t unrolled_interface_bytes(void);

// What an error code means, in a sentence.
const char *unrolled_message(int32_t error);

// Whether both this library and this CPU have them.
int32_t unrolled_has_instructions(int32_t instructions);
}
