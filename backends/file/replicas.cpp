// SharesDriver's replicas: "<volume>.replica" beside the volumes of a share, the content of a volume that is on
// another. No list of volumes shows them, and Cinder's driver has no such name.
#include <algorithm>

#include "backends/file/shares_driver.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

constexpr std::string_view ending = ".replica";

VolumeId replica_of(const VolumeId& source) {
  return {source.name + std::string(ending)};
}

}  // namespace

Result<void> SharesDriver::clone_elsewhere(const CloneSpec& clone, const Found& source, const MountedShares& where) {
  MountedShares others;
  std::ranges::copy_if(where.all, std::back_inserter(others.all),
                       [&](const Mounted& on) { return on.share != source.on.share; });
  const VolumeId replica = replica_of(clone.source);
  IMAGECACHE_TRY(const Mounted on, choose(others, clone.size_bytes + source.size_bytes, clone.target));
  {
    IMAGECACHE_TRY(std::optional<std::uint64_t> known, on.files->find(replica));
    if (!known) {
      const std::lock_guard turn(replica_mutex_);
      IMAGECACHE_TRY(known, on.files->find(replica));  // of somebody who was before us
      if (!known) {
        base::log::info("nfs", nullptr, "{}: gets a replica of {}, as {} has no room for another clone",
                        on.share->label(), clone.source.name, source.on.share->address().address);
        IMAGECACHE_CHECK(on.files->copy_from(*source.on.files, clone.source, replica));
        on.share->promise(static_cast<std::int64_t>(source.size_bytes));
      }
    }
  }
  CloneSpec from_replica = clone;
  from_replica.source = replica;
  IMAGECACHE_CHECK(on.files->create_cloned_volume(from_replica));
  on.share->promise(static_cast<std::int64_t>(clone.size_bytes));
  return {};
}

Result<void> SharesDriver::remove_replicas(const VolumeId& source) {
  IMAGECACHE_TRY(const MountedShares where, mounted());
  const VolumeId replica = replica_of(source);
  for (const Mounted& on : where.all) {
    IMAGECACHE_TRY(const std::optional<std::uint64_t> size_bytes, on.files->find(replica));
    if (!size_bytes) continue;
    IMAGECACHE_CHECK(on.files->delete_volume(replica));
    on.share->promise(-static_cast<std::int64_t>(*size_bytes));
  }
  return {};
}

void SharesDriver::remove_orphaned_replicas() {
  auto where = mounted();
  if (!where || where->away) return;  // the source may be on what is away
  for (const Mounted& on : where->all) {
    const auto files = on.files->list_volumes();
    if (!files) continue;
    for (const VolumeId& file : *files) {
      if (!file.name.ends_with(ending)) continue;
      const VolumeId source{file.name.substr(0, file.name.size() - ending.size())};
      const auto found = look_for(source, *where);
      if (!found || *found || where->away) continue;
      if (auto removed = on.files->delete_volume(file); !removed) {
        base::log::warning("nfs", nullptr, "{}: {} is of no use any more and cannot be removed: {}", on.share->label(),
                           file.name, removed.error().message);
      }
    }
  }
}

}  // namespace imagecache::backends
