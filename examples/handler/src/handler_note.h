// What a handler library was built with, in an ELF note that the server reads before it opens the library: a mismatch becomes
// an error that names both sides, not an undefined symbol or a crash. The server has the same file.
#pragma once

#include <torch/version.h>

#include <cstdint>
#include <string>

// Raised whenever something in handler.h changes that both sides must have alike.
#define HANDLER_INTERFACE 1

#define HANDLER_TEXT_(text) #text
#define HANDLER_TEXT(text) HANDLER_TEXT_(text)
#if defined(_LIBCPP_VERSION)
#define HANDLER_LIBRARY "libc++"
#define HANDLER_LIBRARY_VERSION HANDLER_TEXT(_LIBCPP_VERSION)
#define HANDLER_CXX11_ABI "1"
#else
#define HANDLER_LIBRARY "libstdc++"
#define HANDLER_LIBRARY_VERSION HANDLER_TEXT(_GLIBCXX_RELEASE)
#define HANDLER_CXX11_ABI HANDLER_TEXT(_GLIBCXX_USE_CXX11_ABI)
#endif
#if defined(__clang__)
#define HANDLER_COMPILER __VERSION__
#else
#define HANDLER_COMPILER "GCC " __VERSION__
#endif
#define HANDLER_FACTS(name)                                                         \
  "class=" name "\ninterface=" HANDLER_TEXT(HANDLER_INTERFACE) "\ntorch=" TORCH_VERSION \
  "\ncxx11_abi=" HANDLER_CXX11_ABI "\nstandard_library=" HANDLER_LIBRARY             \
  "\nstandard_library_version=" HANDLER_LIBRARY_VERSION "\ncompiler=" HANDLER_COMPILER "\n"
#define HANDLER_NOTE_NAME "Handler"
#define HANDLER_NOTE_TYPE 1

#define HANDLER_NOTE(Class)                                                                            \
  __attribute__((used, section(".note.handler"), aligned(4))) static const struct {                    \
    std::uint32_t name_size, text_size, type;                                                          \
    char name[sizeof(HANDLER_NOTE_NAME)];                                                              \
    alignas(4) char text[sizeof(HANDLER_FACTS(#Class))];                                               \
  } handler_note_##Class = {sizeof(HANDLER_NOTE_NAME), sizeof(HANDLER_FACTS(#Class)), HANDLER_NOTE_TYPE, \
                            HANDLER_NOTE_NAME, HANDLER_FACTS(#Class)}
