// One random case: its numbers, and arrays that end where their memory ends.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "../../../src/unrolled/native/interface.h"

using Doubles = std::vector<double>;

// Memory whose last byte is followed by what must not be touched: the sanitizer's, or a page that
// is not there. The bytes before the first are looked at in the end.
class Memory {
public:
    Memory(size_t bytes, size_t offset) : bytes_(bytes), offset_(offset) {
#ifdef __SANITIZE_ADDRESS__
        base_ = static_cast<char *>(std::malloc(offset + bytes + !(offset + bytes)));
#else
        const size_t page = size_t(sysconf(_SC_PAGESIZE));
        all_ = ((offset + bytes) / page + 2) * page;
        mapped_ = static_cast<char *>(mmap(nullptr, all_, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (mapped_ == MAP_FAILED) std::perror("mmap"), std::_Exit(2);
        mprotect(mapped_ + all_ - page, page, PROT_NONE);
        base_ = mapped_ + all_ - page - bytes - offset;
#endif
        std::memset(base_, BEFORE, offset);
    }
    Memory(const Memory &) = delete;
    ~Memory() {
#ifdef __SANITIZE_ADDRESS__
        std::free(base_);
#else
        munmap(mapped_, all_);
#endif
    }
    char *data() const { return base_ + offset_; }
    size_t bytes() const { return bytes_; }
    bool intact() const {
        for (size_t i = 0; i < offset_; ++i)
            if (base_[i] != BEFORE) return false;
        return true;
    }

private:
    static constexpr char BEFORE = 0x5a;
    const size_t bytes_, offset_;
    char *base_;
#ifndef __SANITIZE_ADDRESS__
    char *mapped_;
    size_t all_;
#endif
};

// Numbers of float32 or float64. Random ones are read by the kernels and must stay; others are NaN
// until they are written.
class Array {
public:
    Array(bool wide, size_t count, size_t offset)
        : wide(wide), count(count), memory(count * size(), offset * size()) {}
    size_t size() const { return wide ? sizeof(double) : sizeof(float); }
    void *at(size_t i) const { return memory.data() + i * size(); }
    void set(size_t i, double x) {
        if (wide)
            reinterpret_cast<double *>(memory.data())[i] = x;
        else
            reinterpret_cast<float *>(memory.data())[i] = float(x);
    }
    double get(size_t i) const {
        return wide ? reinterpret_cast<double *>(memory.data())[i]
                    : double(reinterpret_cast<float *>(memory.data())[i]);
    }
    Doubles values() const {
        Doubles all(count);
        for (size_t i = 0; i < count; ++i) all[i] = get(i);
        return all;
    }
    const bool wide;
    const size_t count;
    Memory memory;
    std::vector<char> kept;  // of an array that must stay as it is
};

class Case {
public:
    Case(const char *name, unsigned seed, unsigned number, unsigned caller)
        : name(name), seed(seed), number(number) {
        std::seed_seq sequence{seed, number, caller};
        random.seed(sequence);
        shape[0] = 0;
    }

    // --- what is drawn ---
    size_t upto(size_t low, size_t high) { return low + random() % (high - low + 1); }
    bool flip(unsigned one_in = 2) { return random() % one_in == 0; }
    double normal() { return std::normal_distribution<double>()(random); }
    size_t size(size_t high) {  // as often small as large; or beside a multiple of a vector
        size_t n = size_t(std::exp(std::log(double(high) + 0.99) * double(upto(0, 1000)) / 1000));
        if (flip(3)) n = (n + 15) / 16 * 16 + upto(0, 2) - 1;
        return n < 1 ? 1 : n > high ? high : n;
    }
    size_t batch() {  // every residue of the tiles; and what tiles and blocks are rounded to
        static constexpr size_t TILES[] = {6, 8, 32, 36}, SEEN[] = {1, 33, 61, 62, 63, 64, 96, 128, 256};
        size_t n = upto(1, 300);
        if (flip(3)) n = n / TILES[n % 4] * TILES[n % 4] + upto(0, 2);
        if (flip(5)) n = SEEN[upto(0, 8)];
        return n < 1 ? 1 : n;
    }

    // --- arrays ---
    Array &array(size_t count, bool drawn, double scale = 1) {
        arrays.emplace_back(new Array(wide, count, flip() ? 0 : upto(1, 15)));
        Array &a = *arrays.back();
        for (size_t i = 0; i < count; ++i) a.set(i, drawn ? scale * normal() : NAN);
        if (drawn) a.kept.assign(a.memory.data(), a.memory.data() + a.memory.bytes());
        return a;
    }
    Array *some_array(size_t count, bool drawn) { return flip(4) ? nullptr : &array(count, drawn); }
    int64_t *ids(size_t count, size_t vocabulary) {
        int64_t *all = reinterpret_cast<int64_t *>(bytes(int64_t(count * sizeof(int64_t)), 8));
        for (size_t i = 0; i < count; ++i) all[i] = int64_t(upto(0, vocabulary - 1));
        return all;
    }
    void *bytes(int64_t count, size_t alignment = 1) {  // scratch memory lies anywhere
        if (count < 0) fail("no scratch memory for such sizes");
        blocks.emplace_back(new Memory(size_t(count), upto(0, 63) / alignment * alignment));
        std::memset(blocks.back()->data(), 0xff, size_t(count));  // NaN
        return blocks.back()->data();
    }

    // --- what is said ---
    __attribute__((format(printf, 2, 3))) void describe(const char *format, ...) {
        va_list given;
        va_start(given, format);
        const size_t used = std::strlen(shape);
        std::vsnprintf(shape + used, sizeof shape - used, format, given);
        va_end(given);
    }
    [[noreturn]] void fail(const char *what, size_t at = 0, double found = 0, double right = 0) {
        std::printf("FAILED %s\n%s at %zu: %.17g, not %.17g\nrepeat: fuzz %s %u 0 %u\n", shape, what,
                    at, found, right, name, seed, number);
        std::fflush(stdout);
        std::_Exit(1);
    }
    void refused(int32_t error) {
        if (error) fail(unrolled_message(error));
    }

    // --- what is checked ---
    double tolerance() const { return wide ? 1e-12 : 1e-5; }
    void near(const char *what, size_t at, double found, double right, double scale) {
        const double most = tolerance() * (1 + std::abs(scale));
        if (!(std::abs(found - right) <= most)) fail(what, at, found, right);
    }
    void finish() {
        for (const auto &a : arrays) {
            if (!a->memory.intact()) fail("written before an array's start");
            if (!a->kept.empty() && std::memcmp(a->kept.data(), a->memory.data(), a->kept.size()))
                fail("an array that is only read has changed");
        }
        for (const auto &block : blocks)
            if (!block->intact()) fail("written before the start of scratch memory, or of ids");
    }
    // as a product's factor: a float32 that becomes a bfloat16 is rounded, to the nearest
    double factor(double x) const {
        if (precision != BFLOAT16) return x;
        const float narrow = float(x);
        uint32_t bits;
        std::memcpy(&bits, &narrow, sizeof bits);
        bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
        float rounded;
        std::memcpy(&rounded, &bits, sizeof bits);
        return rounded;
    }
    Doubles factors(const Array &a) const {
        Doubles all = a.values();
        for (double &x : all) x = factor(x);
        return all;
    }

    const char *const name;
    const unsigned seed, number;
    std::mt19937_64 random;
    int32_t instructions = 0, precision = FLOAT32, threads = 1, openmp = 0;
    bool wide = false;
    char shape[500];

private:
    std::vector<std::unique_ptr<Array>> arrays;
    std::vector<std::unique_ptr<Memory>> blocks;
};

inline void *address(Array *a) { return a ? a->at(0) : nullptr; }
inline double value(const Array *a, size_t i) { return a ? a->get(i) : 0; }
