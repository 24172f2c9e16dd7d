// The one table of drivers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "imagecache/driver.hpp"

namespace imagecache::backends {

/// The factory for a `volume_driver` value: our own short name ("file") or a Cinder class name that we serve.
/// nullptr if there is none.
DriverFactory find_driver(std::string_view volume_driver);

/// The short names, for messages.
std::vector<std::string> driver_names();

}  // namespace imagecache::backends
