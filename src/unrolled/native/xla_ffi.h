// What the kernels need of XLA's foreign function interface, versions 0.1 to 0.3.
//
// XLA's own header (xla/ffi/api/c_api.h of OpenXLA, Apache License 2.0) comes with jaxlib, which
// need not be there when the package is built. The interface is made for what was built apart
// from XLA: as long as the major version stays, fields are only added, at the ends of the
// structures. So the few that a handler reads stand here once more, up to the last field read.
#pragma once
#include <cstddef>
#include <cstdint>

namespace xla_ffi {

enum { MAJOR = 0, FIRST = 1, LATEST = 3 };  // XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR
enum { METADATA = 1 };          // XLA_FFI_Extension_Metadata
enum { ARRAY = 1 };             // XLA_FFI_AttrType_ARRAY
enum { INVALID_ARGUMENT = 3 };  // XLA_FFI_Error_Code_INVALID_ARGUMENT

struct Error;  // XLA's own

struct Extension {  // XLA_FFI_Extension_Base
    size_t bytes;
    int32_t type;
    Extension *next;
};

struct Version {  // XLA_FFI_Api_Version
    size_t bytes;
    Extension *extensions;
    int major, minor;
};

struct Metadata {  // XLA_FFI_Metadata
    size_t bytes;
    Version version;
};

struct MetadataExtension {  // XLA_FFI_Metadata_Extension
    Extension base;
    Metadata *metadata;
};

struct ErrorCreate {  // XLA_FFI_Error_Create_Args
    size_t bytes;
    Extension *extensions;
    const char *message;
    int32_t code;
};

struct Api {  // XLA_FFI_Api
    size_t bytes;
    Extension *extensions;
    Version version;
    const void *internal;
    Error *(*create_error)(ErrorCreate *);
};

struct Buffer {  // XLA_FFI_Buffer
    size_t bytes;
    Extension *extensions;
    int32_t type;
    void *data;
};

struct Buffers {  // XLA_FFI_Args, XLA_FFI_Rets
    size_t bytes;
    Extension *extensions;
    int64_t size;
    const int32_t *types;
    Buffer **buffers;
};

struct Text {  // XLA_FFI_ByteSpan
    const char *text;
    size_t length;
};

struct Array {  // XLA_FFI_Array
    int32_t type;
    size_t size;
    const void *values;
};

struct Attributes {  // XLA_FFI_Attrs
    size_t bytes;
    Extension *extensions;
    int64_t size;
    const int32_t *types;
    const Text *const *names;
    const void *const *values;
};

struct CallFrame {  // XLA_FFI_CallFrame
    size_t bytes;
    Extension *extensions;
    const Api *api;
    void *context;
    int32_t stage;
    Buffers arguments, results;
    Attributes attributes;
};

}  // namespace xla_ffi
