#include "origin/file_facts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "base/digest.hpp"
#include "base/text.hpp"

namespace imagecache::origin {
namespace {

using namespace std::string_view_literals;

/// The namespace of our version 5 UUIDs: made once, never to change, or every directory's ids would.
constexpr std::array<unsigned char, 16> id_namespace = {0x7c, 0x1f, 0x0a, 0x52, 0x3e, 0x94, 0x4d, 0x0b,
                                                        0x9a, 0x61, 0x5d, 0xc8, 0x20, 0xe7, 0x46, 0xb3};

std::string uuid5(std::string_view name) {
  auto sha1 = base::Digest::of("sha1");
  if (!sha1) return "";  // a libcrypto without SHA-1: the file is left out
  sha1->update(std::as_bytes(std::span(id_namespace)));
  sha1->update(std::as_bytes(std::span(name)));
  std::string hex = sha1->hex().substr(0, 32);
  static constexpr std::string_view digits = "0123456789abcdef";
  hex[12] = '5';
  hex[16] = digits[8 | (digits.find(hex[16]) & 3U)];
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" + hex.substr(16, 4) + "-" +
         hex.substr(20);
}

bool has_at(std::span<const std::byte> data, std::size_t offset, std::string_view magic) {
  return data.size() >= offset + magic.size() && std::memcmp(data.data() + offset, magic.data(), magic.size()) == 0;
}

template <std::endian order>
std::optional<std::uint64_t> number_at(std::span<const std::byte> data, std::size_t offset) {
  if (data.size() < offset + 8) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    const std::size_t at = order == std::endian::big ? offset + i : offset + 7 - i;
    value = value << 8U | std::to_integer<std::uint64_t>(data[at]);
  }
  return value;
}

}  // namespace

std::string id_of_file(std::string_view file_name) {
  const auto stem = file_name.substr(0, file_name.rfind('.'));
  return base::is_uuid(stem) ? base::to_lower(stem) : uuid5(file_name);
}

std::string format_of(std::string_view file_name, std::span<const std::byte> beginning) {
  struct Magic {
    std::size_t offset;
    std::string_view bytes;
    std::string_view format;
  };
  static constexpr std::array<Magic, 8> magics = {{{0, "QFI\xfb"sv, "qcow2"},
                                                   {0, "KDMV"sv, "vmdk"},
                                                   {0, "# Disk DescriptorFile"sv, "vmdk"},
                                                   {0, "vhdxfile"sv, "vhdx"},
                                                   {0, "conectix"sv, "vhd"},
                                                   {0x40, "\x7f\x10\xda\xbe"sv, "vdi"},
                                                   {0, "LUKS\xba\xbe"sv, "luks"},
                                                   {0x8001, "CD001"sv, "iso"}}};
  for (const auto& magic : magics) {
    if (has_at(beginning, magic.offset, magic.bytes)) return std::string(magic.format);
  }
  static constexpr std::array<std::string_view, 7> extensions = {"qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso", "ploop"};
  const auto dot = file_name.rfind('.');
  const std::string extension = dot == std::string_view::npos ? "" : base::to_lower(file_name.substr(dot + 1));
  const auto* const found = std::ranges::find(extensions, extension);
  return found == extensions.end() ? "raw" : extension;
}

std::optional<std::uint64_t> virtual_size_of(std::string_view format, std::span<const std::byte> beginning,
                                             std::uint64_t file_bytes) {
  if (format == "raw" || format == "iso") return file_bytes;
  if (format == "qcow2" && has_at(beginning, 0, "QFI\xfb"sv)) return number_at<std::endian::big>(beginning, 24);
  if (format == "vdi" && has_at(beginning, 0x40, "\x7f\x10\xda\xbe"sv)) {
    return number_at<std::endian::little>(beginning, 0x170);
  }
  return std::nullopt;
}

std::string iso8601_of_ns(std::int64_t ns_since_epoch) {
  const std::chrono::sys_time<std::chrono::nanoseconds> time{std::chrono::nanoseconds(ns_since_epoch)};
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), clock.hours().count(),
                     clock.minutes().count(), clock.seconds().count(), clock.subseconds().count());
}

}  // namespace imagecache::origin
