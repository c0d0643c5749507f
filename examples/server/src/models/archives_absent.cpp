// Built only where src/handlers is not there: a server without handlers.
#include <filesystem>

#include "../servable.h"

std::unique_ptr<Servable> open_archive(const std::string&, const OpenOptions&) { throw RequestError(422, "this server was built without handlers"); }

std::string name_of_archive(const std::string& path) { return std::filesystem::path(path).stem().string(); }
