// A shared library, opened and asked for a function: libtorch's own class for it, which 1.1 does not install.
#pragma once

#if __has_include(<ATen/DynamicLibrary.h>)
#include <ATen/DynamicLibrary.h>

using Library = at::DynamicLibrary;
#else
#include <dlfcn.h>

#include <stdexcept>

class Library {
 public:
  explicit Library(const char* name) : handle_(dlopen(name, RTLD_LOCAL | RTLD_NOW)) {
    check(handle_);
  }
  ~Library() {
    if (handle_ != nullptr) dlclose(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  void* sym(const char* name) {
    return check(dlsym(handle_, name));
  }

 private:
  static void* check(void* found) {
    if (found == nullptr) throw std::runtime_error(dlerror());
    return found;
  }

  void* handle_;
};
#endif
