// The table's part on how an image becomes a raw volume.
#include <array>

#include "config/option_parts.hpp"

namespace imagecache::config {
namespace {

using enum Type;

constexpr auto table = std::to_array<Option>({
    {.section = own_section,
     .name = "max_conversions",
     .type = integer,
     .default_text = "2",
     .min = 1,
     .max = 256,
     .help = "Images converted and copied into image-volumes at once; more wait."},
    {.section = own_section,
     .name = "max_volume_copies",
     .type = integer,
     .default_text = "2",
     .min = 1,
     .max = 256,
     .help = "Volumes copied into other volumes or uploaded as images at once; more wait. They keep no image-volume "
             "waiting."},
    {.section = own_section,
     .name = "conversion_threads",
     .type = integer,
     .default_text = "2",
     .min = 1,
     .max = 256,
     .help = "Threads that read and decompress one image."},
    {.section = own_section,
     .name = "conversion_timeout",
     .type = integer,
     .default_text = "3600",
     .unit = "seconds",
     .min = 1,
     .max = 7 * day_s,
     .help = "A conversion by qemu-img is killed after this."},
    {.section = own_section,
     .name = "conversion_cpu_limit",
     .type = integer,
     .default_text = "3600",
     .unit = "seconds",
     .min = 0,
     .max = 7 * day_s,
     .help = "CPU time that qemu-img may use for one conversion; 0: no limit."},
    {.section = own_section,
     .name = "conversion_address_space_limit",
     .type = size,
     .default_text = "4294967296",
     .unit = "bytes",
     .min = 0,
     .max = int64_max,
     .help = "Memory that qemu-img may map for one conversion; 0: no limit."},
    {.section = own_section,
     .name = "max_virtual_size",
     .type = size,
     .default_text = "70368744177664",
     .unit = "bytes",
     .min = 512,
     .max = int64_max,
     .help = "An image whose disk is larger is refused."},
    {.section = "DEFAULT",
     .name = "image_conversion_dir",
     .type = path,
     .default_text = "${image_cache_service.state_path}/conversion",
     .help = "Scratch space of conversions; unlike Cinder's, its default lies in this service's own state_path."},
    {.section = "DEFAULT",
     .name = "image_conversion_cpu_limit",
     .type = integer,
     .default_text = "60",
     .unit = "seconds",
     .min = 0,
     .max = int32_max,
     .help = "CPU time that qemu-img may use to inspect an image."},
    {.section = "DEFAULT",
     .name = "image_conversion_address_space_limit",
     .type = integer,
     .default_text = "1",
     .unit = "GiB",
     .min = 0,
     .max = 1024 * 1024,
     .help = "Memory that qemu-img may map to inspect an image."},
    {.section = "DEFAULT",
     .name = "image_conversion_disable",
     .type = boolean,
     .default_text = "false",
     .help = "Refuse images that would have to be converted."},
    {.section = "DEFAULT",
     .name = "verify_glance_signatures",
     .type = string,
     .default_text = "enabled",
     .choices = "disabled,enabled",
     .help =
         "enabled: no volume of a signed image (img_signature…) is made here, as verifying takes a key manager; the "
         "driver hook leaves it to Cinder. disabled: signatures are not looked at."},
    {.section = "DEFAULT",
     .name = "vmdk_allowed_types",
     .type = list,
     .default_text = "streamOptimized,monolithicSparse",
     .help = "Kinds of VMDK that are accepted; empty: none."},
});

}  // namespace

std::span<const Option> conversion_options() {
  return table;
}

}  // namespace imagecache::config
