// Which kind of model a file is.
#include <filesystem>

#include "../servable.h"
#include "messages.h"

std::unique_ptr<Servable> open_model(const std::string& path, const OpenOptions& options) {
  const std::string suffix = std::filesystem::path(path).extension().string();
  try {
    if (suffix == ".mar") return open_archive(path, options);
    if (suffix == ".pt2") return open_aotinductor(path);
    return open_torchscript(path);
  } catch (const RequestError&) {
    throw;
  } catch (const std::exception& error) {
    throw RequestError(422, "the model cannot be loaded: " + first_line(error.what()));
  }
}
