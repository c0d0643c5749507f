#include "catalog.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "../servable.h"

namespace {

struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

std::string suffix_of(const std::string& file) {
  const std::size_t dot = file.rfind('.');
  return dot == std::string::npos || file.find('/', dot) != std::string::npos ? "" : file.substr(dot);
}

// Where two files have one stem, the first of these is offered under it.
constexpr const char* suffixes[] = {".pt", ".ts", ".pth", ".pt2", ".mar"};

bool is_model(const std::string& file) {
  return std::find(std::begin(suffixes), std::end(suffixes), suffix_of(file)) != std::end(suffixes);
}

// A path whose parts are names: neither absolute nor with `..`.
bool is_plain(const std::string& file) {
  if (file.empty() || file.size() >= PATH_MAX || file[0] == '/' || file.find('\0') != std::string::npos) return false;
  for (std::size_t start = 0; start <= file.size();) {
    const std::size_t end = std::min(file.find('/', start), file.size());
    const std::string part = file.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") return false;
    start = end + 1;
  }
  return true;
}

std::string real_path_of(int descriptor) {
  std::string path(PATH_MAX, '\0');
  const ssize_t length = readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), path.data(), path.size());
  path.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  return path;
}

// The kernel refuses every way out, symbolic links included. One before 5.6 has no openat2: then the real path is compared.
int open_beneath(int root, const std::string& root_path, const std::string& file, int more_flags = 0) {
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | more_flags;
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const long opened = syscall(SYS_openat2, root, file.c_str(), &how, sizeof how);
  if (opened >= 0 || (errno != ENOSYS && errno != EPERM)) return static_cast<int>(opened);
  const int descriptor = openat(root, file.c_str(), flags);
  if (descriptor >= 0 && (real_path_of(descriptor) + "/").compare(0, root_path.size() + 1, root_path + "/") != 0) {
    close(descriptor);
    errno = EXDEV;
    return -1;
  }
  return descriptor;
}

// inotify reports only what this machine changes.
bool is_local(int descriptor) {
  struct statfs about {};
  if (fstatfs(descriptor, &about) != 0) return false;
  const auto kind = static_cast<std::uint32_t>(about.f_type);
  const std::uint32_t remote[] = {0x6969, 0xFF534D42, 0xFE534D42, 0x517B, 0x65735546, 0x01021997, 0x00C36400};  // NFS, CIFS, SMB2, SMB, FUSE, 9P, Ceph
  return std::find(std::begin(remote), std::end(remote), kind) == std::end(remote);
}

}  // namespace

Catalog::Catalog(const std::string& directory) {
  root_fd_ = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root_fd_ < 0) throw std::runtime_error("--models " + directory + ": " + std::strerror(errno));
  root_ = real_path_of(root_fd_);
  if (is_local(root_fd_)) inotify_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

Catalog::~Catalog() {
  close(root_fd_);
  if (inotify_ >= 0) close(inotify_);
}

ModelFile Catalog::find(const std::string& file) {
  const std::lock_guard<std::mutex> held(lock_);
  hear();
  return known(file);
}

Found Catalog::find_named(const std::string& name) {
  const std::lock_guard<std::mutex> held(lock_);
  scan();  // hears
  const std::string& file = named(name);
  return {file, known(file)};
}

ModelFile Catalog::known(const std::string& file) {
  const auto found = known_.find(file);
  if (found != known_.end()) return found->second;
  const ModelFile model = look_up(file);
  // Every directory on the way is watched, and what is remembered was looked at after that.
  bool watched = inotify_ >= 0 && watch(root_) && watch(model.path.substr(0, model.path.rfind('/')));
  for (std::size_t slash = file.find('/'); watched && slash != std::string::npos; slash = file.find('/', slash + 1)) {
    watched = watch(root_ + "/" + file.substr(0, slash));
  }
  if (!watched) return model;
  if (known_.size() > 10000) known_.clear();
  return known_[file] = look_up(file);
}

ModelFile Catalog::look_up(const std::string& file) {
  if (!is_plain(file)) throw RequestError(400, "a model is named by its path below the directory of models, without '..'");
  if (!is_model(file)) throw RequestError(400, "no model: its name ends with neither .pt, .ts, .pth, .pt2 nor .mar");
  const Descriptor opened{open_beneath(root_fd_, root_, file)};
  if (opened.number < 0) {
    if (errno == EXDEV || errno == ELOOP) throw RequestError(403, "the model is not below the directory of models");
    if (errno == EACCES) throw RequestError(403, "the model's file may not be read");
    if (errno == EMFILE || errno == ENFILE) throw RequestError(503, "too many open files");
    throw RequestError(404, "no such model");
  }
  struct stat about {};
  if (fstat(opened.number, &about) != 0 || !S_ISREG(about.st_mode)) throw RequestError(404, "no such model");
  ModelFile model;
  model.path = real_path_of(opened.number);
  model.identity = {about.st_dev, about.st_ino, about.st_mtim.tv_sec, about.st_mtim.tv_nsec, about.st_size};
  return model;
}

bool Catalog::watch(const std::string& directory) {
  const int number = inotify_add_watch(
      inotify_, directory.c_str(), IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR);
  if (number < 0) return false;  // the system's limit is reached: then every request looks
  return true;
}

// What the kernel has queued, in the order in which it happened: a change that was complete before a request came
// is always heard before that request is answered.
void Catalog::hear() {
  if (inotify_ < 0) return;
  alignas(inotify_event) char events[4096];
  while (read(inotify_, events, sizeof events) > 0) {
    known_.clear();
    scanned_ = false;
  }
}

// The files below the directory that are called as models are; false where changes will not be heard. Links to directories are
// not followed, so that a file is found once, and hidden directories are left out.
bool Catalog::collect(std::set<std::string>& files) {
  bool heard = inotify_ >= 0;
  std::vector<std::string> directories = {""};  // each with a slash behind it
  while (!directories.empty()) {
    const std::string below = std::move(directories.back());
    directories.pop_back();
    const int opened = open_beneath(root_fd_, root_, below.empty() ? "." : below.substr(0, below.size() - 1), O_DIRECTORY | O_NOFOLLOW);
    DIR* const directory = opened < 0 ? nullptr : fdopendir(opened);
    if (directory == nullptr) {
      if (opened >= 0) close(opened);
      if (below.empty()) throw RequestError(500, "the directory of models cannot be read");
      continue;  // it vanished, or may not be read
    }
    heard = heard && watch(root_ + "/" + below);  // before it is read
    while (const dirent* entry = readdir(directory)) {
      const std::string name = entry->d_name;
      if (is_model(name)) files.insert(below + name);
      struct stat about {};
      const bool known = entry->d_type != DT_UNKNOWN || fstatat(dirfd(directory), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0;
      if (name[0] != '.' && (known ? entry->d_type == DT_DIR : S_ISDIR(about.st_mode))) directories.push_back(below + name + "/");
    }
    closedir(directory);
  }
  return heard;
}

void Catalog::scan() {
  hear();
  if (scanned_) return;
  std::set<std::string> names;
  scanned_ = collect(names);
  listed_.clear();
  files_.clear();
  for (const char* const suffix : suffixes) {
    for (const std::string& file : names) {
      if (suffix_of(file) != suffix) continue;
      std::string name = file.substr(0, file.size() - std::strlen(suffix));
      try {
        const ModelFile model = look_up(file);
        if (suffix == std::string(".mar")) name = file.substr(0, file.rfind('/') + 1) + name_of_archive(model.path);
      } catch (const RequestError&) {
        continue;  // a link that leads out, a directory
      }
      listed_.push_back({name, file});
      files_.emplace(name, file);
    }
  }
  std::sort(listed_.begin(), listed_.end(), [](const Listed& a, const Listed& b) { return std::tie(a.name, a.file) < std::tie(b.name, b.file); });
}

const std::string& Catalog::named(const std::string& name) {
  const auto found = files_.find(name);
  if (found == files_.end()) throw RequestError(404, "no such model");
  return found->second;
}

std::string Catalog::file_of(const std::string& name) {
  const std::lock_guard<std::mutex> held(lock_);
  scan();
  return named(name);
}

std::vector<Listed> Catalog::list() {
  const std::lock_guard<std::mutex> held(lock_);
  scan();
  return listed_;
}
