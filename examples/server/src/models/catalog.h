// The directory of models: which files it offers, under which names, and when they change.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

// Which file it is: another one in its place has another identity, and so does the same one after a change.
struct Identity {
  dev_t device = 0;
  ino_t inode = 0;
  std::int64_t seconds = 0, nanoseconds = 0;
  off_t size = 0;
  auto tied() const { return std::tie(device, inode, seconds, nanoseconds, size); }
  bool operator<(const Identity& other) const { return tied() < other.tied(); }
  bool operator==(const Identity& other) const { return tied() == other.tied(); }
};

struct ModelFile {
  std::string path;  // real, below the directory
  Identity identity;
};

// What a request has named.
struct Found {
  std::string file;  // for /serve
  ModelFile model;
};

// One model as it is listed.
struct Listed {
  std::string name;  // for /predictions and /v2: "directory/stem"
  std::string file;  // for /serve
};

class Catalog {
 public:
  // Throws std::runtime_error where the directory cannot be read.
  explicit Catalog(const std::string& directory);
  ~Catalog();
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  // The file that a request names. Throws RequestError: 400 where it leads out of the directory, 404 where there is none.
  // What was asked for before is answered from memory until inotify reports a change.
  ModelFile find(const std::string& file);

  // The same by the name under which it is offered.
  Found find_named(const std::string& name);

  // The file that is offered under a name. Throws RequestError(404).
  std::string file_of(const std::string& name);

  std::vector<Listed> list();

 private:
  ModelFile known(const std::string& file);
  const std::string& named(const std::string& name);
  ModelFile look_up(const std::string& file);
  void scan();
  bool collect(std::set<std::string>& files);
  void hear();
  bool watch(const std::string& directory);

  std::string root_;
  int root_fd_ = -1, inotify_ = -1;
  std::mutex lock_;
  std::map<std::string, ModelFile> known_;    // by what a request named
  std::vector<Listed> listed_;
  std::map<std::string, std::string> files_;  // by name
  bool scanned_ = false;
};
