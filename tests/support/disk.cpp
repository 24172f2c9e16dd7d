#include "support/disk.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <span>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::test {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t mib = base::mib;

void replace_all(std::string& text, const std::string& what, const std::string& with) {
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

}  // namespace

std::string sparse_disk(unsigned seed) {
  std::string raw;
  std::mt19937_64 random(seed);
  const auto noise = [&](std::uint64_t bytes) {
    for (std::uint64_t i = 0; i < bytes; i += 8) {
      const std::uint64_t value = random();
      raw.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  };
  noise(3 * mib);
  raw.append(mib, '\0');
  for (std::uint64_t i = 0; i < 2 * mib; ++i) raw.push_back(static_cast<char>('a' + i / 7 % 23));
  noise(3 * mib);
  return raw;
}

std::string by_qemu_img(const std::string& raw, const std::string& command) {
  const TempDir scratch;
  std::ofstream(scratch / "raw", std::ios::binary) << raw;
  std::string line = "cd '" + scratch.path().native() + "' && qemu-img " + command + " > qemu-img.log";
  replace_all(line, "%r", "raw");
  replace_all(line, "%o", "made");
  if (std::system(line.c_str()) != 0) return {};
  std::ifstream made(scratch / "made", std::ios::binary);
  return {std::istreambuf_iterator<char>(made), std::istreambuf_iterator<char>()};
}

std::string as_qcow2(const std::string& raw) {
  return by_qemu_img(raw, "convert -c -f raw -O qcow2 %r %o");
}

testing::AssertionResult holds(const fs::path& volume, const std::string& raw, int size_gb) {
  const auto bad = [&](const std::string& reason) { return testing::AssertionFailure() << volume << ": " << reason; };
  const auto fd = base::open_file(volume, O_RDONLY);
  if (!fd) return bad(fd.error().message);
  const off_t size = ::lseek(fd->get(), 0, SEEK_END);
  if (size != static_cast<off_t>(size_gb) * static_cast<off_t>(base::gib)) return bad("size " + std::to_string(size));
  std::string piece(raw.size(), '\0');
  const auto start = base::read_at(fd->get(), std::as_writable_bytes(std::span(piece)), 0, volume.native());
  if (!start || piece != raw) return bad("its bytes are not the image's");
  // Holes read as zeroes; what is no hole behind the image must be zeroes too.
  for (auto at = static_cast<off_t>(raw.size()); (at = ::lseek(fd->get(), at, SEEK_DATA)) >= 0;) {
    piece.assign(mib, 'x');
    const auto n = base::read_at(fd->get(), std::as_writable_bytes(std::span(piece)), static_cast<std::uint64_t>(at),
                                 volume.native());
    if (!n || *n == 0) return bad("cannot be read");
    if (piece.find_first_not_of('\0') < *n) return bad("data behind the image near " + std::to_string(at));
    at += static_cast<off_t>(*n);
  }
  return testing::AssertionSuccess();
}

std::vector<std::string> files_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(directory, missing)) {
    if (entry.is_regular_file()) names.push_back(entry.path().filename().native());
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace imagecache::test
