// The parts of the scripted origin that know no network: gates, contents, small texts.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/digest.hpp"
#include "support/scripted_origin.hpp"

namespace imagecache::test {
namespace {

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t table_pages = 16;

std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

const std::array<std::byte, page_bytes * table_pages>& noise() {
  static const auto table = [] {
    std::array<std::byte, page_bytes * table_pages> bytes{};
    for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::uint64_t)) {
      const std::uint64_t value = mix(i);
      std::memcpy(bytes.data() + i, &value, sizeof(value));
    }
    return bytes;
  }();
  return table;
}

void make_page(std::uint64_t seed, std::uint64_t page, std::byte* into) {
  const std::uint64_t stamp = mix(seed ^ mix(page));
  std::memcpy(into, noise().data() + (stamp % table_pages) * page_bytes, page_bytes);
  std::memcpy(into, &stamp, sizeof(stamp));
}

}  // namespace

void Gate::open() {
  const std::scoped_lock lock(mutex_);
  open_ = true;
  changed_.notify_all();
}

bool Gate::pass(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  ++arrived_;
  changed_.notify_all();
  return changed_.wait(lock, stop, [this] { return open_; });
}

bool Gate::wait_arrived(std::size_t count, std::chrono::seconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return arrived_ >= count; });
}

std::size_t Gate::arrived() const {
  const std::scoped_lock lock(mutex_);
  return arrived_;
}

struct Content::State {
  std::string given;
  std::uint64_t size_bytes = 0;
  std::optional<std::uint64_t> seed;
  std::mutex mutex;
  std::map<std::string, std::string> digests;  // by algorithm; protected by mutex

  void read(std::uint64_t offset, std::span<std::byte> into) const;
  std::string digest(const std::string& algorithm);
};

void Content::State::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (!seed) {
    std::memcpy(into.data(), given.data() + offset, into.size());
    return;
  }
  while (!into.empty()) {
    const std::uint64_t skip = offset % page_bytes;
    const std::size_t n = std::min<std::size_t>(into.size(), page_bytes - skip);
    if (n == page_bytes) {
      make_page(*seed, offset / page_bytes, into.data());
    } else {
      std::array<std::byte, page_bytes> page{};
      make_page(*seed, offset / page_bytes, page.data());
      std::memcpy(into.data(), page.data() + skip, n);
    }
    into = into.subspan(n);
    offset += n;
  }
}

std::string Content::State::digest(const std::string& algorithm) {
  const std::scoped_lock lock(mutex);
  auto& kept = digests[algorithm];
  if (!kept.empty()) return kept;
  auto hash = base::Digest::of(algorithm);
  if (!hash) return "";
  std::vector<std::byte> buffer(1 << 20);
  for (std::uint64_t at = 0; at < size_bytes;) {
    const auto piece = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size_bytes - at));
    read(at, piece);
    hash->update(piece);
    at += piece.size();
  }
  return kept = hash->hex();
}

Content Content::of(std::string bytes) {
  auto state = std::make_shared<State>();
  state->size_bytes = bytes.size();
  state->given = std::move(bytes);
  return Content(std::move(state));
}

Content Content::generated(std::uint64_t size_bytes, std::uint64_t seed) {
  auto state = std::make_shared<State>();
  state->size_bytes = size_bytes;
  state->seed = seed;
  return Content(std::move(state));
}

std::uint64_t Content::size_bytes() const {
  return state_->size_bytes;
}

void Content::read(std::uint64_t offset, std::span<std::byte> into) const {
  // Beyond the end there are zeroes, for answers that do not know where to stop.
  const std::uint64_t left = offset < size_bytes() ? size_bytes() - offset : 0;
  const auto inside = into.first(std::min<std::uint64_t>(left, into.size()));
  if (!inside.empty()) state_->read(offset, inside);
  std::ranges::fill(into.subspan(inside.size()), std::byte{0});
}

std::string Content::bytes(std::uint64_t offset, std::uint64_t length) const {
  if (offset >= size_bytes()) return "";
  std::string text(std::min(length, size_bytes() - offset), '\0');
  state_->read(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

std::string Content::sha512() const {
  return state_->digest("sha512");
}
std::string Content::md5() const {
  return state_->digest("md5");
}

std::string SeenRequest::header(std::string_view lower_case_name) const {
  const auto found = headers.find(std::string(lower_case_name));
  return found == headers.end() ? "" : found->second;
}

std::string describe_path(const std::string& image_id) {
  return "/v2/images/" + image_id;
}
std::string file_path(const std::string& image_id) {
  return describe_path(image_id) + "/file";
}

std::string json_string(std::string_view text) {
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string json = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (byte < 0x20) {
      json += "\\u00";
      json += digits[byte >> 4U];
      json += digits[byte & 15U];
    } else {
      json += c;
    }
  }
  return json + '"';
}

}  // namespace imagecache::test
