// The pixels of an image's file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

struct Image {
  int height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  // rows of red, green, blue
};

// Of PNG and JPEG. Throws std::runtime_error with what is wrong.
Image read_image(const std::string& file);

// Throws std::runtime_error where the text is not base64; white space is allowed.
std::string base64_decoded(std::string_view text);
