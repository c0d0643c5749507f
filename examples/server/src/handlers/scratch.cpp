#include "scratch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <system_error>

namespace fs = std::filesystem;

namespace {

constexpr const char* prefix = "torch-server-";

// An open directory that this process alone holds; -1 where another one does or it is gone.
int locked(const std::string& path) {
  const int directory = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (directory < 0) return -1;
  struct stat opened {};
  struct stat named {};
  if (flock(directory, LOCK_EX | LOCK_NB) == 0 && fstat(directory, &opened) == 0 && lstat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino) return directory;
  close(directory);
  return -1;
}

// Removes what killed servers of this user left.
void sweep(const fs::path& parent) {
  std::error_code ignored;
  for (fs::directory_iterator entry(parent, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    if (entry->path().filename().string().rfind(prefix, 0) != 0) continue;
    struct stat status {};
    if (lstat(entry->path().c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != geteuid()) continue;
    const int directory = locked(entry->path().string());
    if (directory < 0) continue;
    fs::remove_all(entry->path(), ignored);
    ignored.clear();
    close(directory);
  }
}

}  // namespace

Scratch::Scratch() {
  const char* const named = std::getenv("TMPDIR");
  const fs::path parent = named != nullptr && *named == '/' ? named : "/tmp";
  sweep(parent);
  while (lock_ < 0) {
    path_ = (parent / (std::string(prefix) + "XXXXXX")).string();
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no directory can be made in " + parent.string() + ": " + std::strerror(errno));
    lock_ = locked(path_);  // unless another server's sweep was faster
  }
}

Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  close(lock_);
}
