// Tables of functions, made by kernels.cpp: one for each instruction set and precision.
#pragma once
#include "interface.h"
#include "threads.h"

namespace unrolled {

// One of interface.h's cells
inline int gates_of(int cell) { return cell == LSTM ? 4 : cell == GRU ? 3 : 1; }

struct Kernels {
    void (*forward)(const void *recurrence, Team &team);
    void (*backward)(const void *recurrence, Team &team);
    size_t (*forward_bytes)(const Recurrence &r);
    size_t (*backward_bytes)(const Recurrence &r);
    void (*product)(const void *product, Team &team);
    size_t (*product_bytes)(const Product &p);
    void (*affine_backward)(const void *affine, Team &team);
    size_t (*affine_backward_bytes)(const AffineGradients &a);

    // NULL for BFLOAT16
    void (*norms)(const void *norms, Team &team);
    size_t (*norms_bytes)(const Norms &n);
    void (*layer_numbers)(const void *layer_numbers, Team &team);
    size_t (*layer_numbers_bytes)(const LayerNumbers &l);
    void (*pack_model)(const LanguageModel &m);
    size_t (*packed_bytes)(const LanguageModel &m);
    void (*read_text)(const void *text, Team &team);
    size_t (*read_bytes)(const LanguageModel &m);
};

namespace portable { extern const Kernels FLOAT32_KERNELS, FLOAT64_KERNELS, BFLOAT16_KERNELS; }
namespace avx2 { extern const Kernels FLOAT32_KERNELS, FLOAT64_KERNELS, BFLOAT16_KERNELS; }
namespace avx512 { extern const Kernels FLOAT32_KERNELS, FLOAT64_KERNELS, BFLOAT16_KERNELS; }
namespace avx512_bf16 { extern const Kernels BFLOAT16_KERNELS; }  // the others are those of avx512

}  // namespace unrolled
