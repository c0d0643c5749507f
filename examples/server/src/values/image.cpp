#include "image.h"

#include <jpeglib.h>
#include <png.h>

#include <array>
#include <csetjmp>
#include <cstring>
#include <stdexcept>

namespace {

constexpr std::uint64_t most_bytes = 64u << 20;  // of an image that is unpacked

void allocate(Image& image, std::uint64_t width, std::uint64_t height) {
  if (width == 0 || height == 0 || width * height * 3 > most_bytes) {
    throw std::runtime_error("an image of " + std::to_string(width) + "x" + std::to_string(height) + " pixels is too large");
  }
  image.width = static_cast<int>(width);
  image.height = static_cast<int>(height);
  image.pixels.resize(static_cast<std::size_t>(width * height * 3));
}

struct Source {
  const std::string& file;
  std::size_t at = 0;
};

// libpng's errors are exceptions here; its frames are C, compiled with unwind tables on every Debian architecture.
[[noreturn]] void png_failed(png_structp, png_const_charp text) { throw std::runtime_error(std::string("a damaged PNG image: ") + text); }
void png_warned(png_structp, png_const_charp) {}
void png_bytes(png_structp png, png_bytep out, png_size_t size) {
  auto& source = *static_cast<Source*>(png_get_io_ptr(png));
  if (size > source.file.size() - source.at) png_failed(png, "it ends too early");
  std::memcpy(out, source.file.data() + source.at, size);
  source.at += size;
}

Image read_png(const std::string& file) {
  struct Reader {
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, png_failed, png_warned);
    png_infop info = png_create_info_struct(png);
    ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
  } reader;
  Source source{file};
  png_set_read_fn(reader.png, &source, png_bytes);
  png_read_info(reader.png, reader.info);
  Image image;
  allocate(image, png_get_image_width(reader.png, reader.info), png_get_image_height(reader.png, reader.info));
  png_set_expand(reader.png);
  png_set_strip_16(reader.png);
  png_set_gray_to_rgb(reader.png);
  png_set_strip_alpha(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  const std::size_t row = static_cast<std::size_t>(image.width) * 3;
  if (png_get_rowbytes(reader.png, reader.info) != row) throw std::runtime_error("a PNG image of an unknown form");
  std::vector<png_bytep> rows;
  for (int y = 0; y < image.height; ++y) rows.push_back(image.pixels.data() + row * static_cast<std::size_t>(y));
  png_read_image(reader.png, rows.data());
  return image;
}

[[noreturn]] void jpeg_failed(j_common_ptr jpeg) {
  std::array<char, JMSG_LENGTH_MAX> text{};
  jpeg->err->format_message(jpeg, text.data());
  throw std::runtime_error(std::string("a damaged JPEG image: ") + text.data());
}
void jpeg_silent(j_common_ptr, int) {}

Image read_jpeg(const std::string& file) {
  jpeg_error_mgr errors{};
  struct Reader {
    jpeg_decompress_struct jpeg{};
    ~Reader() { jpeg_destroy_decompress(&jpeg); }
  } reader;
  reader.jpeg.err = jpeg_std_error(&errors);
  errors.error_exit = jpeg_failed;
  errors.emit_message = jpeg_silent;
  jpeg_create_decompress(&reader.jpeg);
  jpeg_mem_src(&reader.jpeg, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  jpeg_read_header(&reader.jpeg, TRUE);
  reader.jpeg.out_color_space = JCS_RGB;
  Image image;
  allocate(image, reader.jpeg.image_width, reader.jpeg.image_height);
  jpeg_start_decompress(&reader.jpeg);
  const std::size_t row = static_cast<std::size_t>(image.width) * 3;
  while (reader.jpeg.output_scanline < reader.jpeg.output_height) {
    JSAMPROW line = image.pixels.data() + row * reader.jpeg.output_scanline;
    jpeg_read_scanlines(&reader.jpeg, &line, 1);
  }
  jpeg_finish_decompress(&reader.jpeg);
  return image;
}

}  // namespace

Image read_image(const std::string& file) {
  if (file.compare(0, 8, "\x89PNG\r\n\x1a\n") == 0) return read_png(file);
  if (file.compare(0, 3, "\xff\xd8\xff") == 0) return read_jpeg(file);
  throw std::runtime_error("neither a PNG nor a JPEG image");
}

std::string base64_decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int letters = 0, padded = 0;
  bool ended = false;  // nothing may follow the padding
  for (const char letter : text) {
    if (letter == ' ' || letter == '\n' || letter == '\r' || letter == '\t') continue;
    const int value = letter >= 'A' && letter <= 'Z' ? letter - 'A'
        : letter >= 'a' && letter <= 'z'             ? letter - 'a' + 26
        : letter >= '0' && letter <= '9'             ? letter - '0' + 52
        : letter == '+'                              ? 62
        : letter == '/'                              ? 63
                                                     : -1;
    if (letter == '=' && letters >= 2) {
      ++padded;
    } else if (value < 0 || padded > 0) {
      throw std::runtime_error("not base64");
    }
    if (ended) throw std::runtime_error("not base64");
    bits = bits << 6 | static_cast<std::uint32_t>(value < 0 ? 0 : value);
    if (++letters < 4) continue;
    for (int i = 2; i >= padded; --i) out += static_cast<char>(bits >> (8 * i) & 255);
    ended = padded > 0;
    letters = 0;
    bits = 0;
  }
  if (letters > 0) throw std::runtime_error("not base64");
  return out;
}
