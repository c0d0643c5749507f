// A directory of this process for an archive's files, removed with the object; if the process is killed, by the next one.
#pragma once

#include <string>

class Scratch {
 public:
  Scratch();  // throws std::runtime_error
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int lock_ = -1;  // held as long as the directory is in use
};
