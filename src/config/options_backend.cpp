// The table's part on what each section has that enabled_backends names.
#include <array>

#include "config/option_parts.hpp"

namespace imagecache::config {
namespace {

using enum Type;

constexpr auto table = std::to_array<Option>({
    {.section = backend_scope,
     .name = "volume_driver",
     .type = string,
     .default_text = "cinder.volume.drivers.lvm.LVMVolumeDriver",
     .help = "The driver: file, memory, or the class name that Cinder knows it by."},
    {.section = backend_scope,
     .name = "volume_backend_name",
     .type = string,
     .help = "The backend's name, which is a volume type too as long as no types are made; unset: the section's name."},
    {.section = backend_scope,
     .name = "backend_host",
     .type = string,
     .help = "Goes before [DEFAULT] host for this backend's volumes."},
    {.section = backend_scope,
     .name = "image_volume_cache_enabled",
     .type = boolean,
     .default_text = "false",
     .help = "Keep image-volumes on this backend."},
    {.section = backend_scope,
     .name = "image_volume_cache_max_size_gb",
     .type = integer,
     .default_text = "0",
     .unit = "GiB",
     .min = 0,
     .max = int32_max,
     .help = "Image-volumes of this backend may have this size together; 0: any."},
    {.section = backend_scope,
     .name = "image_volume_cache_max_count",
     .type = integer,
     .default_text = "0",
     .min = 0,
     .max = int32_max,
     .help = "So many image-volumes may be kept on this backend; 0: any number."},
    {.section = backend_scope,
     .name = "file_volume_dir",
     .type = path,
     .help = "For volume_driver = file: the directory of the volumes; on XFS or btrfs clones share their data."},
    {.section = backend_scope,
     .name = "file_max_concurrency",
     .type = integer,
     .default_text = "8",
     .min = 1,
     .max = 1024,
     .help = "For volume_driver = file: calls at once."},
});

}  // namespace

std::span<const Option> backend_options() {
  return table;
}

}  // namespace imagecache::config
