// Bodies that a client has compressed.
#pragma once

#include <zlib.h>

#include <string>

enum class Inflated { whole, damaged, too_large };

// gzip and zlib's own format; what comes out is bounded while it comes.
inline Inflated inflate_body(const std::string& body, std::size_t most, std::string& out) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 32) != Z_OK) return Inflated::damaged;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
  stream.avail_in = static_cast<uInt>(body.size());
  char piece[16384];
  int ended = Z_OK;
  while (ended == Z_OK && out.size() <= most) {
    stream.next_out = reinterpret_cast<Bytef*>(piece);
    stream.avail_out = sizeof piece;
    ended = inflate(&stream, Z_NO_FLUSH);
    out.append(piece, sizeof piece - stream.avail_out);
    if (ended == Z_OK && stream.avail_in == 0 && stream.avail_out > 0) break;  // it is cut off
  }
  inflateEnd(&stream);
  if (out.size() > most) return Inflated::too_large;
  return ended == Z_STREAM_END ? Inflated::whole : Inflated::damaged;
}
