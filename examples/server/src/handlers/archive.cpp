#include "archive.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "../servable.h"

namespace {

constexpr const char* manifest_name = "MAR-INF/MANIFEST.json";
constexpr std::uint64_t most_entries = 10000;
constexpr std::uint64_t largest_manifest = 1u << 20;
// Weights hardly compress. What unpacks to more than this is not a model.
constexpr std::uint64_t allowance = 256u << 20;
constexpr std::uint64_t most_times = 100;

[[noreturn]] void refuse(const std::string& fact) { throw RequestError(422, "the archive " + fact); }

// A relative path of plain names: nothing that leads out of a directory, or that a terminal or a log would take for something else.
bool is_plain(const std::string& name) {
  if (name.empty() || name.size() > 1000 || name.front() == '/') return false;
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7F || c == '\\') return false;
  }
  for (std::size_t start = 0; start < name.size();) {
    const std::size_t end = std::min(name.find('/', start), name.size());
    const std::string part = name.substr(start, end - start);
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
    start = end + 1;
  }
  return true;
}

std::string shown(std::string text) {
  if (text.size() > 100) text = text.substr(0, 100) + "...";
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return "\"" + text + "\"";
}

}  // namespace

void Archive::Close::operator()(zip* file) const { zip_discard(file); }

Archive::Archive(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (descriptor < 0 || fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    if (descriptor >= 0) close(descriptor);
    refuse("cannot be read");
  }
  int error = 0;
  zip_.reset(zip_fdopen(descriptor, 0, &error));
  if (!zip_) {
    close(descriptor);
    refuse("is not a zip file");
  }
  list(static_cast<std::uint64_t>(status.st_size));
  const auto found = std::find_if(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.name == manifest_name; });
  if (found == entries_.end()) refuse(std::string("has no ") + manifest_name);
  read_manifest(read_small(*found));
}

void Archive::list(std::uint64_t archive_size) {
  const zip_int64_t count = zip_get_num_entries(zip_.get(), 0);
  if (count < 0 || static_cast<std::uint64_t>(count) > most_entries) refuse("has more than " + std::to_string(most_entries) + " files");
  std::set<std::string> names;
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(count); ++i) {
    zip_stat_t status;
    if (zip_stat_index(zip_.get(), i, 0, &status) != 0 || (status.valid & ZIP_STAT_NAME) == 0 || (status.valid & ZIP_STAT_SIZE) == 0) refuse("is damaged");
    std::string name = status.name;
    const bool directory = !name.empty() && name.back() == '/';
    if (directory) name.pop_back();
    if (!is_plain(name)) refuse("has a file with the name " + shown(name) + ", which is not a plain relative path");
    zip_uint8_t system = 0;
    zip_uint32_t attributes = 0;
    if (zip_file_get_external_attributes(zip_.get(), i, 0, &system, &attributes) == 0 && system == ZIP_OPSYS_UNIX) {
      const mode_t type = (attributes >> 16) & S_IFMT;
      if (type != 0 && type != S_IFREG && type != S_IFDIR) refuse("has " + shown(name) + ", which is a link or a device");
    }
    if (directory) continue;
    if ((status.valid & ZIP_STAT_COMP_METHOD) != 0 && status.comp_method != ZIP_CM_STORE && status.comp_method != ZIP_CM_DEFLATE) refuse("has " + shown(name) + ", which is compressed in another way than zip's usual one");
    if ((status.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && status.encryption_method != ZIP_EM_NONE) refuse("has " + shown(name) + ", which is encrypted");
    if (!names.insert(name).second) refuse("has two files with the name " + shown(name));
    const std::uint64_t most = allowance + most_times * archive_size;
    if (status.size > most || total > most - status.size) refuse("unpacks to more than " + std::to_string(most_times) + " times its size");
    total += status.size;
    entries_.push_back({name, i, status.size});
  }
}

std::string Archive::read_small(const Entry& entry) const {
  if (entry.size > largest_manifest) refuse("has a manifest of more than " + std::to_string(largest_manifest) + " bytes");
  std::string text(static_cast<std::size_t>(entry.size), '\0');
  zip_file_t* const file = zip_fopen_index(zip_.get(), entry.index, 0);
  const zip_int64_t count = file == nullptr ? -1 : zip_fread(file, text.data(), text.size());
  if (file != nullptr) zip_fclose(file);
  if (count != static_cast<zip_int64_t>(text.size())) refuse("is damaged");
  return text;
}

void Archive::read_manifest(const std::string& text) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(text).get(root) != simdjson::SUCCESS || !root.is_object()) refuse("has a manifest that is not a JSON object");
  simdjson::dom::element model;
  if (root["model"].get(model) != simdjson::SUCCESS || !model.is_object()) refuse("has a manifest without \"model\"");
  const auto string = [](simdjson::dom::element parent, const char* key, bool required) {
    simdjson::dom::element value;
    std::string_view text;
    if (parent[key].get(value) != simdjson::SUCCESS || value.is_null()) {
      if (required) refuse(std::string("has a manifest without \"") + key + "\"");
      return std::string();
    }
    if (value.get(text) != simdjson::SUCCESS) refuse(std::string("has a manifest in which \"") + key + "\" is not a string");
    return std::string(text);
  };
  runtime_ = string(root, "runtime", false);
  manifest_.model_name = string(model, "modelName", true);
  manifest_.model_version = string(model, "modelVersion", false);
  manifest_.serialized_file = string(model, "serializedFile", false);
  manifest_.handler = string(model, "handler", true);
  const std::string& name = manifest_.model_name;
  if (!is_plain(name) || name.size() > 255 || name.find('/') != std::string::npos) refuse("has the model name " + shown(name) + ", which is not a plain name");
  if (!manifest_.serialized_file.empty() && (!is_plain(manifest_.serialized_file) || !has(manifest_.serialized_file))) {
    refuse("has no file " + shown(manifest_.serialized_file) + ", which its manifest calls the model");
  }
}

bool Archive::has(const std::string& name) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name; });
}

void Archive::write(const Entry& entry, const std::string& directory) const {
  const std::filesystem::path path = std::filesystem::path(directory) / entry.name;
  std::error_code failed;
  std::filesystem::create_directories(path.parent_path(), failed);
  const int out = failed ? -1 : open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (out < 0) refuse("cannot be unpacked: " + shown(entry.name) + ": " + (failed ? failed.message() : std::strerror(errno)));
  zip_file_t* const file = zip_fopen_index(zip_.get(), entry.index, 0);
  std::string problem = file == nullptr ? "is damaged" : "";
  std::uint64_t written = 0;
  std::vector<char> block(1u << 18);
  while (problem.empty()) {
    const zip_int64_t count = zip_fread(file, block.data(), block.size());
    if (count == 0) break;
    if (count < 0 || (written += static_cast<std::uint64_t>(count)) > entry.size) {
      problem = "is damaged";
    } else {
      for (zip_int64_t done = 0; done < count && problem.empty();) {
        const ssize_t some = ::write(out, block.data() + done, static_cast<std::size_t>(count - done));
        if (some < 0 && errno != EINTR) problem = std::string("cannot be unpacked: ") + std::strerror(errno);
        if (some > 0) done += some;
      }
    }
  }
  if (problem.empty() && written != entry.size) problem = "is damaged";
  if (file != nullptr && zip_fclose(file) != 0 && problem.empty()) problem = "is damaged";
  if (close(out) != 0 && problem.empty()) problem = std::string("cannot be unpacked: ") + std::strerror(errno);
  if (!problem.empty()) refuse(problem);
}

void Archive::extract(const std::string& name, const std::string& directory) const {
  for (const Entry& entry : entries_) {
    if (entry.name == name) return write(entry, directory);
  }
  refuse("has no file " + shown(name));
}

void Archive::extract_all(const std::string& directory) const {
  for (const Entry& entry : entries_) write(entry, directory);
}
