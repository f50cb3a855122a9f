// Random calls of the C interface, compared with naive loops.
//
//     fuzz <instruction set> <seed> <seconds>            cases 0, 1, 2, ... of a seed
//     fuzz <instruction set> <seed> <seconds> <case>     one of them again
//
// Built with sanitizers by `make sanitize`. A case takes at most some seconds; one that hangs is
// ended. "wide" stands for kernels built in AVX-512's shapes for a processor without it.
#include <dlfcn.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "layers.h"
#include "others.h"
#include "text.h"

namespace {

constexpr unsigned LONGEST_CASE = 300;  // seconds, where an emulator runs it
constexpr int MOST_CALLERS = 3;
Case *under_way[MOST_CALLERS];

void say_what_is_under_way() {
    for (const Case *c : under_way)
        if (c)
            std::fprintf(stderr, "died in: %s\nrepeat: fuzz %s %u 0 %u\n", c->shape, c->name, c->seed, c->number);
}
void die(int signal) {
    say_what_is_under_way();
    ::signal(signal, SIG_DFL);
    raise(signal);
}

// Sizes and numbers that there are no kernels for are refused, with scratch memory and without.
template <class Call>
void refuse(Case &c, int32_t (*call)(const Call *), int64_t (*bytes)(const Call *), Call zeros) {
    zeros.instructions = c.instructions, zeros.precision = int32_t(c.upto(0, 3));
    if (bytes(&zeros) != -1 || call(&zeros) != BAD_ARGUMENT) c.fail("zeros are not refused");
}
void check_refusals(Case &c) {
    c.describe("refusals");
    Recurrence r{};
    r.threads = int32_t(c.upto(0, 1)), r.T = int64_t(c.upto(0, 1)), r.H = 3;
    refuse(c, unrolled_forward, unrolled_forward_workspace, r);
    refuse(c, unrolled_backward, unrolled_backward_workspace, r);
    Product p{};
    p.threads = p.groups = int32_t(c.upto(0, 1)), p.M = 5, p.N = int64_t(c.upto(0, 1));
    refuse(c, unrolled_product, unrolled_product_workspace, p);
    AffineGradients a{};
    a.threads = 1, a.N = int64_t(c.upto(0, 1)), a.D = 2;
    refuse(c, unrolled_affine_backward, unrolled_affine_backward_workspace, a);
    Norms n{};
    n.threads = 1, n.count = int64_t(c.upto(0, 1));
    refuse(c, unrolled_norms, unrolled_norms_workspace, n);
    LayerNumbers l{};
    l.threads = 1, l.T = int64_t(c.upto(0, 1)), l.B = 4;
    refuse(c, unrolled_layer_numbers, unrolled_layer_numbers_workspace, l);
}

void check(Case &c, size_t budget) {
    c.precision = int32_t(c.upto(FLOAT32, BFLOAT16));
    const size_t kind = c.upto(0, 19);
    if (kind >= 16 && c.precision == BFLOAT16) c.precision = FLOAT64;  // measures, texts
    c.wide = c.precision == FLOAT64;
    if (kind < 10) {
        LayerCase layer(c, budget / 4);
        if (layer.forward() && !c.flip(4)) layer.backward();
    } else if (kind < 13) {
        check_product(c, budget);
    } else if (kind < 15) {
        check_affine(c, budget / 2);
    } else if (kind < 16) {
        check_refusals(c);
    } else if (kind < 17) {
        check_norms(c, budget);
    } else if (kind < 18) {
        check_layer_numbers(c, budget);
    } else {
        TextCase text(c, budget);
        text.read(), text.read();
    }
    c.finish();
}

}  // namespace

extern "C" {
void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));
const char *__tsan_default_options() { return "halt_on_error=1"; }
const char *__ubsan_default_options() { return "halt_on_error=1:print_stacktrace=1"; }
}

int main(int count, char **words) {
    static const char *const SETS[] = {"portable", "avx2", "avx512", "avx512_bf16"};
    if (count < 4) return std::fprintf(stderr, "fuzz <set> <seed> <seconds> [<case>]\n"), 2;
    const unsigned seed = unsigned(std::atoi(words[2])), only = count > 4 ? unsigned(std::atoi(words[4])) : 0;
    int32_t instructions = 0;
    for (int32_t i = 0; i < 4; ++i)
        if (!std::strcmp(words[1], SETS[i])) instructions = i;
    if (!unrolled_has_instructions(instructions)) return std::printf("not on this processor\n"), 3;
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(say_what_is_under_way);
    else
        for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) ::signal(signal, die);
    for (const int signal : {SIGABRT, SIGALRM}) ::signal(signal, die);
#ifndef __SANITIZE_THREAD__  // which does not know OpenMP's own ways to wait
    const bool openmp = dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL);
#else
    const bool openmp = false;
#endif
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(words[3]));
    unsigned number = only;
    do {
        std::mt19937 how(seed ^ number * 2654435761u);
        const int callers = how() % 4 ? 1 : int(2 + how() % 2);  // at the same time
        const size_t budget = how() % 20 ? 4000000 : 40000000;   // multiplications
        const auto call = [&](int caller) {
            Case c(words[1], seed, number, unsigned(caller));
            c.instructions = instructions;
            c.threads = int32_t(c.upto(1, 8)), c.openmp = openmp && c.flip(3);
            under_way[caller] = &c;
            check(c, budget);
            if (count > 4) std::printf("%s\n", c.shape);
            under_way[caller] = nullptr;
        };
        alarm(LONGEST_CASE);
        std::vector<std::thread> others;
        for (int i = 1; i < callers; ++i) others.emplace_back(call, i);
        call(0);
        for (std::thread &other : others) other.join();
        ++number;
    } while (count < 5 && std::chrono::steady_clock::now() < end);
    std::printf("%u cases\n", number - only);
    std::fflush(stdout);
    std::_Exit(0);  // threads of the pool wait for the next call
}
