// What `lvs` and `vgs` answer with --reportformat json, and what an LVM command's errors mean.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::backends {

/// The columns that parse_lvs wants, as `lvs -o`. None is a segment's (such as `zero`), or a volume would be listed
/// once for each of its segments.
constexpr std::string_view lvs_columns = "lv_name,lv_size,lv_attr,pool_lv,data_percent,lv_tags";
/// The columns that parse_vgs wants, as `vgs -o`.
constexpr std::string_view vgs_columns = "vg_name,vg_size,vg_free,vg_extent_size";

struct LogicalVolume {
  std::string name;
  std::uint64_t size_bytes = 0;
  std::string attributes;   ///< lvs(8), lv_attr: the first says what it is
  std::string pool;         ///< of a thin volume; empty: it is none
  double data_percent = 0;  ///< of a thin pool: how full it is; of a thin volume: how much of it is mapped
  std::vector<std::string> tags;

  bool is_thin_pool() const { return attributes.starts_with('t'); }
  /// Of a thin pool: what is written to for the first time is zeroed first.
  bool pool_zeroes() const { return attributes.size() > 7 && attributes[7] == 'z'; }
  /// Of a thin pool: it has no room for data, or had none when somebody wrote.
  bool pool_is_full() const { return data_percent >= 100 || (attributes.size() > 8 && attributes[8] == 'D'); }
  bool is_thin() const { return !pool.empty(); }
  /// Has snapshots of the old kind, which go with it. Thin ones stand by themselves and are not meant.
  bool is_origin() const { return attributes.starts_with('o') || attributes.starts_with('O'); }
  /// Is such a snapshot.
  bool is_snapshot() const { return attributes.starts_with('s') || attributes.starts_with('S'); }
};

struct VolumeGroupSpace {
  std::uint64_t size_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t extent_bytes = 1;  ///< volumes are as large as some number of these
};

/// `lvs --reportformat json --units b --nosuffix -o <lvs_columns>`. Errc::internal for anything else.
Result<std::vector<LogicalVolume>> parse_lvs(std::string_view json);
/// `vgs --reportformat json --units b --nosuffix -o <vgs_columns> <one group>`.
Result<VolumeGroupSpace> parse_vgs(std::string_view json);

/// The kind of failure that an LVM command (2.03, LC_ALL=C) tells of on its standard error.
Errc errc_of_lvm(std::string_view errors);
/// Its errors as one line for a message: without the warnings if anything else is there, without control characters.
std::string one_line(std::string_view errors);

}  // namespace imagecache::backends
