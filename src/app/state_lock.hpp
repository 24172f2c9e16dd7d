// One process a state directory: the service, or a command that works without it.
#pragma once

#include <string>

#include "base/fd.hpp"
#include "imagecache/error.hpp"

namespace imagecache::app {

/// Makes the directory; the lock lives as long as the descriptor. Errc::conflict, with the process that has it, if
/// another does.
Result<base::Fd> lock_state(const std::string& state_path);

/// The name of this state, a uuid that is made with it and kept in its file `id`; to be called while the lock is held.
/// Whoever keeps a book of what was made here tells by it this service from another.
Result<std::string> state_id(const std::string& state_path);

}  // namespace imagecache::app
