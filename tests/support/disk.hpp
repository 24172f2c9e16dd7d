// A disk to make images of, and a look at the volumes that are made of them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace imagecache::test {

/// 9 MiB with noise, text and a hole; the same for the same seed.
std::string sparse_disk(unsigned seed = 1);

/// What `qemu-img COMMAND` makes of it: %r is a file that holds `raw`, %o the file whose content is handed back.
/// Empty if qemu-img fails or is not there.
std::string by_qemu_img(const std::string& raw, const std::string& command);
/// Compressed, as most images are.
std::string as_qcow2(const std::string& raw);

/// Is `volume` a file of exactly size_gb GiB that holds `raw` and behind it zeroes?
testing::AssertionResult holds(const std::filesystem::path& volume, const std::string& raw, int size_gb);

/// Names of the regular files in a directory, sorted; none if it is not there.
std::vector<std::string> files_in(const std::filesystem::path& directory);

}  // namespace imagecache::test
