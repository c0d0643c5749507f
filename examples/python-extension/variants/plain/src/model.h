// What module.cpp shows to Python. No torch and no Python here, so that only model.cpp takes long to compile.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct Array {
  std::vector<float> values;  // in row-major order
  std::vector<std::int64_t> shape;
};

class Model {
 public:
  explicit Model(const std::string& path);
  ~Model();
  Array forward(const Array& input) const;

 private:
  struct Loaded;
  std::unique_ptr<Loaded> loaded_;
};
