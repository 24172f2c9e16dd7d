#include "backends/drivers.hpp"

#include <algorithm>
#include <array>

#include "backends/cinder/cinder_driver.hpp"
#include "backends/file/file_driver.hpp"
#include "backends/file/shares_driver.hpp"
#include "backends/lvm/lvm_driver.hpp"
#include "backends/memory/memory_driver.hpp"
#ifdef IMAGECACHE_BACKEND_RBD
#include "backends/rbd/rbd_driver.hpp"
#endif

namespace imagecache::backends {

namespace {

struct Row {
  std::string_view name;
  DriverFactory factory;
};

// A new driver is one line here. A Cinder class name ("cinder.volume.drivers.….SomeDriver") is a line of its own, added
// when our driver leaves volumes that this class can manage; and so is our subclass of it (integrations/cinder).
constexpr std::array rows{
    Row{"file", &make_file_driver},
    Row{"memory", &make_memory_driver},
    Row{"lvm", &make_lvm_driver},
    Row{"cinder.volume.drivers.lvm.LVMVolumeDriver", &make_lvm_driver},
    Row{"cinder_image_cache.lvm.LVMVolumeDriver", &make_lvm_driver},
    Row{"cinder", &make_cinder_driver},
    Row{"cinder_image_cache.generic.driver", &make_cinder_driver},
    Row{"cinder.volume.drivers.nfs.NfsDriver", &make_nfs_driver},
    Row{"cinder_image_cache.nfs.NfsDriver", &make_nfs_driver},
#ifdef IMAGECACHE_BACKEND_RBD
    Row{"rbd", &make_rbd_driver},
    Row{"cinder.volume.drivers.rbd.RBDDriver", &make_rbd_driver},
    Row{"cinder_image_cache.rbd.RBDDriver", &make_rbd_driver},
#endif
};

}  // namespace

DriverFactory find_driver(std::string_view volume_driver) {
  const auto row = std::ranges::find(rows, volume_driver, &Row::name);
  return row == rows.end() ? nullptr : row->factory;
}

std::vector<std::string> driver_names() {
  std::vector<std::string> names;
  for (const Row& row : rows) {
    // Class names are aliases of ours, not names of their own.
    if (!row.name.contains('.')) names.emplace_back(row.name);
  }
  return names;
}

}  // namespace imagecache::backends
