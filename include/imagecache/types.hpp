// The values that cross the backend SPI.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <stop_token>
#include <string>

#include "imagecache/error.hpp"

namespace imagecache {

/// The name by which the backend stores a volume: `volume_name_template` filled with the volume's uuid
/// ("volume-3a0f…"). The service has checked it: [A-Za-z0-9._-]+, no leading dot, at most 200 characters.
struct VolumeId {
  std::string name;
  auto operator<=>(const VolumeId&) const = default;
};

/// How a backend makes a volume from another.
enum class CloneSupport {
  none,           ///< it cannot; the service then copies the image into each volume
  full_copy,      ///< it copies the data: time and space grow with the content
  copy_on_write,  ///< it shares the data: time and space do not grow with the content
};

/// Constant for the life of the driver once check_for_setup_error() has succeeded; but `clone` may change between
/// full_copy and copy_on_write, and `atomic_clones`, when storage that was away comes back.
struct Capabilities {
  CloneSupport clone = CloneSupport::none;
  unsigned max_concurrency = 1;                 ///< how many calls the driver takes at once; the service holds to it
  unsigned clones_per_source = 0;               ///< most clones of one volume alive at a time; 0: no limit
  bool serialize_clones_of_one_source = false;  ///< clones of one source at once are slower than one after the other
  bool has_model_update = false;                ///< Driver::model_update() says something
  bool can_read_volumes = true;                 ///< Driver::read_volume() is there
  bool can_import = false;                      ///< Driver::prepare_import() and what goes with it are there
  /// Over any crash a clone is there under its name with all its content, or not at all; and CloneSpec::before_named is
  /// called. Needs Driver::read_volume(), by which recovery learns the size of what it finds.
  bool atomic_clones = false;
};

/// An image file as the storage's own clients can read it over HTTP, with ranges, for as long as the service says so.
struct ImportSource {
  enum class Format { raw, qcow2 };
  Format format = Format::raw;
  std::string url;  ///< who knows it can read the image: in no log and no message
  /// What the image file begins with: who finds something else at the URL has not reached this service.
  std::string first_bytes;
};

struct VolumeStats {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
};

struct CloneSpec {
  VolumeId source;
  VolumeId target;
  std::uint64_t size_bytes = 0;  ///< of the target; never below the source's size (the service has checked)
  /// A driver whose clone is a copy ends soon after a stop (Errc::cancelled), if it can; one that shares data need not
  /// look.
  std::stop_token stop = {};
  /// Of a driver with Capabilities::atomic_clones only: called when all but the name is there. Blocks for about as long
  /// as a sync of the disk, and once it has returned success the caller remembers, over any crash, that the target is
  /// to be there: so its name alone need not be durable (Driver::list_unnamed_clones()). If it fails, so does the
  /// clone, with its error. May be called more than once.
  std::function<Result<void>()> before_named = {};
};

/// What Cinder's database must say of a finished volume, so that Cinder's own driver can manage it. Absent: nothing.
struct ModelUpdate {
  std::optional<std::string> provider_location;  ///< the column of that name; for NFS the share
  std::optional<std::string> format;             ///< the admin metadata of that name; for NFS "raw"
};

/// What an attacher needs, as Cinder's `connection_info`: {"driver_volume_type": …, "data": {…}}.
struct ConnectionInfo {
  std::string driver_volume_type;
  std::map<std::string, std::string> data;
};

/// An image's content, seen as the raw disk that a volume made of it must hold. The service has verified and inspected
/// it; a driver neither knows nor asks what format it is stored in.
class ImageFile {
 public:
  /// One run of data. Runs that read as zeroes are left out, so a driver writes only into a volume that is all zeroes.
  /// Offsets and lengths are multiples of 512 except at the very end; runs do not overlap and come in any order.
  using Sink = std::function<Result<void>(std::uint64_t offset_bytes, std::span<const std::byte> data)>;

  virtual ~ImageFile() = default;

  /// The size of the disk. The volume is at least this large.
  virtual std::uint64_t virtual_size_bytes() const = 0;

  /// Calls `sink` for every run of data, from several threads at once, and returns when all calls have returned.
  /// The first failure of a sink, or a stop, ends it and is what is returned (a stop as Errc::cancelled).
  virtual Result<void> for_each_data(const Sink& sink, std::stop_token stop) const = 0;

  /// If the content is, byte for byte, a file on this host: a descriptor for reading, owned by the ImageFile. A driver
  /// may then reflink from it. Else nullopt.
  virtual std::optional<int> raw_fd() const { return std::nullopt; }
};

/// A volume's bytes, to be copied: into another volume, or into an image. It may be in use meanwhile; what is written
/// then may or may not be seen. One thread at a time.
class VolumeReader {
 public:
  virtual ~VolumeReader() = default;

  virtual std::uint64_t size_bytes() const = 0;

  /// Where from `offset_bytes` on there may be something other than zeroes; size_bytes() if nowhere.
  virtual Result<std::uint64_t> next_data(std::uint64_t offset_bytes) { return offset_bytes; }

  /// Fills `into`, all of which is inside the volume.
  virtual Result<void> read(std::uint64_t offset_bytes, std::span<std::byte> into) = 0;

  /// As ImageFile::raw_fd().
  virtual std::optional<int> raw_fd() const { return std::nullopt; }
};

}  // namespace imagecache
