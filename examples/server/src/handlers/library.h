// A handler library, checked and opened. The server has the same file.
#pragma once

#include <memory>
#include <string>
#include <utility>

namespace handlers {

class BaseHandler;

// Checks a library without running anything in it, and throws std::runtime_error unless it was built for the program that
// calls this: the same machine, interface, C++ ABI, standard library and libtorch, with the class in it, and no function of
// libtorch that the loaded one lacks. `name` stands in the error for the file.
void check_library(const std::string& file, const std::string& name, const std::string& class_name);

// The only class that a library exports; throws if there are several or none.
std::string class_in(const std::string& file, const std::string& name);

// Checks a library, opens it and makes a handler of the class. The library stays open.
using HandlerPtr = std::unique_ptr<BaseHandler, void (*)(BaseHandler*)>;
HandlerPtr make_handler(const std::string& file, const std::string& name, const std::string& class_name);

// "libmine_handler:MineHandler" → the library's name without a suffix, and the class. Throws unless both are plain names.
std::pair<std::string, std::string> library_and_class(const std::string& handler);

}  // namespace handlers
