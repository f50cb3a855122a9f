// The kernels as operations of XLA, the compiler under JAX: handlers of its foreign functions.
//
// An operation carries one call of the C interface as its attribute: a structure that is filled
// in but for the addresses, which only XLA knows, and where those belong. So the caller says
// everything that there is to say when the program is compiled, and little happens here.
#include <algorithm>
#include <cstring>

#include "interface.h"
#include "xla_ffi.h"

namespace {

using namespace xla_ffi;

Error *error_of(const CallFrame &frame, const char *message) {
    ErrorCreate made{sizeof(ErrorCreate), nullptr, message, INVALID_ARGUMENT};
    return frame.api->create_error(&made);
}

const Array *attribute(const CallFrame &frame, const char *name) {
    const Attributes &all = frame.attributes;
    for (int64_t i = 0; i < all.size; ++i)
        if (all.names[i]->length == std::strlen(name) &&
            !std::memcmp(all.names[i]->text, name, all.names[i]->length))
            return all.types[i] == ARRAY ? static_cast<const Array *>(all.values[i]) : nullptr;
    return nullptr;
}

// XLA asks every handler which version of the interface it was built for, and refuses one that
// it has given up or does not know yet. So this names the latest that both know; the XLA that
// does not tell its own has the first.
void answer(const CallFrame &frame) {
    Version &version = reinterpret_cast<MetadataExtension *>(frame.extensions)->metadata->version;
    version.major = MAJOR;
    version.minor = frame.api ? std::min(frame.api->version.minor, int(LATEST)) : FIRST;
}

// A pointer of the structure: where it stands, in bytes from the structure's start; of which
// array it is, counted over what is read and then what is written; how far into that.
struct Place {
    int64_t field, array, offset;
};

template <class Call, int32_t function(const Call *)>
Error *handle(CallFrame *frame) {
    if (frame->extensions && frame->extensions->type == METADATA) {
        answer(*frame);
        return nullptr;
    }
    const Array *given = attribute(*frame, "call"), *places = attribute(*frame, "places");
    const char *const unfit = "native kernel: the call does not fit the library";
    if (!given || !places || given->size * sizeof(int64_t) != sizeof(Call))
        return error_of(*frame, unfit);
    Call call;
    std::memcpy(&call, given->values, sizeof(Call));
    const auto *place = static_cast<const Place *>(places->values);
    for (size_t i = 0; i < places->size / 3; ++i, ++place) {
        const int64_t written = place->array - frame->arguments.size;
        if (place->array < 0 || written >= frame->results.size || place->field < 0 ||
            size_t(place->field) > sizeof(Call) - sizeof(void *))
            return error_of(*frame, unfit);
        const Buffer *buffer = written < 0 ? frame->arguments.buffers[place->array]
                                           : frame->results.buffers[written];
        void *address = static_cast<char *>(buffer->data) + place->offset;
        std::memcpy(reinterpret_cast<char *>(&call) + place->field, &address, sizeof(address));
    }
    const int32_t error = function(&call);
    return error ? error_of(*frame, unrolled_message(error)) : nullptr;
}

}  // namespace

extern "C" {
Error *unrolled_forward_in_xla(CallFrame *f) { return handle<Recurrence, unrolled_forward>(f); }
Error *unrolled_backward_in_xla(CallFrame *f) { return handle<Recurrence, unrolled_backward>(f); }
Error *unrolled_product_in_xla(CallFrame *f) { return handle<Product, unrolled_product>(f); }
}
