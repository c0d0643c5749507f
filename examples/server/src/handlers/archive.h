// A model archive (.mar) of torch-model-archiver: a zip file with MAR-INF/MANIFEST.json. Nothing in it is trusted.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "handler.h"

struct zip;

class Archive {
 public:
  // Reads the manifest, no more. Throws RequestError(422).
  explicit Archive(const std::string& path);

  const handlers::Manifest& manifest() const { return manifest_; }
  const std::string& runtime() const { return runtime_; }

  bool has(const std::string& name) const;

  // Writes one file, or all, below a directory. Throws RequestError(422) where a name leads out of it, or where the files are not
  // plain ones, or unpack to far more than an archive of this size holds.
  void extract(const std::string& name, const std::string& directory) const;
  void extract_all(const std::string& directory) const;

 private:
  struct Entry {
    std::string name;
    std::uint64_t index;
    std::uint64_t size;
  };
  struct Close {
    void operator()(zip* file) const;
  };

  void list(std::uint64_t archive_size);
  std::string read_small(const Entry& entry) const;
  void read_manifest(const std::string& text);
  void write(const Entry& entry, const std::string& directory) const;

  std::unique_ptr<zip, Close> zip_;
  std::vector<Entry> entries_;
  handlers::Manifest manifest_;
  std::string runtime_;
};
