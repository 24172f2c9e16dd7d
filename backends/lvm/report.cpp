#include "backends/lvm/report.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

using nlohmann::json;

/// What LVM says beside what it is asked for: also a command that succeeds may say it.
bool is_warning(std::string_view line) {
  return line.starts_with("WARNING:") || line.starts_with("Devices file ");
}

/// The rows of {"report": [{"<kind>": [{"column": "value", …}, …]}]}.
Result<json> rows_of(std::string_view text, std::string_view kind) {
  const json whole = json::parse(text, nullptr, false);
  const auto bad = [&](std::string_view why) {
    return fail(Errc::internal, std::string(kind) + "s: its report cannot be read: " + std::string(why));
  };
  if (!whole.is_object()) return bad("it is no JSON object");
  const auto report = whole.find("report");
  if (report == whole.end() || !report->is_array() || report->empty()) return bad("it has no \"report\"");
  const json& first = report->front();
  const auto rows = first.is_object() ? first.find(kind) : first.end();
  if (rows == first.end() || !rows->is_array()) return bad("it has no \"" + std::string(kind) + "\"");
  return *rows;
}

/// LVM writes every value as a text.
std::optional<std::string> text_of(const json& row, const char* column) {
  if (!row.is_object()) return std::nullopt;
  const auto value = row.find(column);
  if (value == row.end() || !value->is_string()) return std::nullopt;
  return value->get<std::string>();
}

Result<std::uint64_t> bytes_of(const json& row, const char* column) {
  const auto text = text_of(row, column);
  const auto bytes = text ? base::parse_unsigned(*text) : std::nullopt;
  if (bytes) return *bytes;
  return fail(Errc::internal, std::string("LVM's report has no size as ") + column);
}

double percent_of(const std::string& text) {
  double percent = 0;
  std::from_chars(text.data(), text.data() + text.size(), percent);
  return std::clamp(percent, 0.0, 100.0);
}

}  // namespace

Result<std::vector<LogicalVolume>> parse_lvs(std::string_view text) {
  IMAGECACHE_TRY(const json rows, rows_of(text, "lv"));
  std::vector<LogicalVolume> volumes;
  volumes.reserve(rows.size());
  for (const json& row : rows) {
    LogicalVolume volume;
    const auto name = text_of(row, "lv_name");
    const auto attributes = text_of(row, "lv_attr");
    if (!name || name->empty() || !attributes || attributes->empty()) {
      return fail(Errc::internal, "lvs: its report has a volume without name or attributes");
    }
    volume.name = *name;
    volume.attributes = *attributes;
    IMAGECACHE_TRY(volume.size_bytes, bytes_of(row, "lv_size"));
    volume.pool = text_of(row, "pool_lv").value_or("");
    volume.data_percent = percent_of(text_of(row, "data_percent").value_or(""));
    for (std::string& tag : base::split(text_of(row, "lv_tags").value_or(""), ',')) {
      if (!tag.empty()) volume.tags.push_back(std::move(tag));
    }
    volumes.push_back(std::move(volume));
  }
  return volumes;
}

Result<VolumeGroupSpace> parse_vgs(std::string_view text) {
  IMAGECACHE_TRY(const json rows, rows_of(text, "vg"));
  if (rows.size() != 1) {
    return fail(Errc::internal,
                "vgs: reports " + std::to_string(rows.size()) + " volume groups where one was asked for");
  }
  VolumeGroupSpace space;
  IMAGECACHE_TRY(space.size_bytes, bytes_of(rows.front(), "vg_size"));
  IMAGECACHE_TRY(space.free_bytes, bytes_of(rows.front(), "vg_free"));
  IMAGECACHE_TRY(space.extent_bytes, bytes_of(rows.front(), "vg_extent_size"));
  if (space.extent_bytes == 0) return fail(Errc::internal, "vgs: reports extents of no size");
  return space;
}

Errc errc_of_lvm(std::string_view errors) {
  struct Meaning {
    std::string_view words;
    Errc code;
  };
  // These count wherever they stand: what was there before must not be taken for ours, and a group that is not seen
  // says nothing of its volumes.
  static constexpr std::array strongest{
      Meaning{"already exists in volume group", Errc::already_exists},
      Meaning{"already exists in Volume group", Errc::already_exists},
      Meaning{"Cannot process volume group", Errc::unavailable},
  };
  // Of these the first that is said: what follows is often a consequence of it.
  static constexpr std::array meanings{
      Meaning{"Failed to find logical volume", Errc::not_found},
      Meaning{"not found in volume group", Errc::not_found},
      Meaning{"not found in Volume group", Errc::not_found},
      Meaning{"nsufficient free space", Errc::no_space},
      Meaning{"nsufficient suitable", Errc::no_space},
      Meaning{"reached threshold", Errc::no_space},
      Meaning{"above threshold", Errc::no_space},
      Meaning{"No space left", Errc::no_space},
      Meaning{"too large for circular buffer", Errc::no_space},  // the group's metadata, of some thousand volumes
      Meaning{" in use", Errc::conflict},
      Meaning{"is used by another device", Errc::conflict},
      Meaning{"Permission denied", Errc::forbidden},
      Meaning{"a password is required", Errc::forbidden},
      Meaning{"Unauthorized command", Errc::forbidden},
  };
  std::string failures;
  for (const std::string& line : base::split(errors, '\n')) {
    if (!is_warning(base::trim(line))) failures += line + '\n';
  }
  for (const Meaning& meaning : strongest) {
    if (failures.contains(meaning.words)) return meaning.code;
  }
  std::size_t earliest = std::string::npos;
  Errc code = Errc::internal;
  for (const Meaning& meaning : meanings) {
    const std::size_t at = failures.find(meaning.words);
    if (at >= earliest) continue;
    earliest = at;
    code = meaning.code;
  }
  return code;
}

std::string one_line(std::string_view errors) {
  constexpr std::size_t longest = 600;
  std::string words;
  std::string warnings;
  for (const std::string& raw : base::split(errors, '\n')) {
    const std::string_view line = base::trim(raw);
    if (line.empty()) continue;
    std::string& to = is_warning(line) ? warnings : words;
    if (!to.empty()) to += "; ";
    to += line;
  }
  if (words.empty()) words = std::move(warnings);
  if (words.empty()) return "it failed without a word";
  std::ranges::replace_if(words, [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, '?');
  if (words.size() > longest) words = words.substr(0, longest) + "…";
  return words;
}

}  // namespace imagecache::backends
