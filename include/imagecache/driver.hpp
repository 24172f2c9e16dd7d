// The backend SPI: what a storage backend must do, and all that a driver's author needs to know.
//
// A driver is plain blocking code. The service owns threads, limits, retries, deadlines, logs and counters; a driver
// sees none of them. It is called from several threads at once, never with more calls in flight than
// Capabilities::max_concurrency, and never with two calls in flight that name the same volume as target. It does not
// throw; a failure is a Result with a message that goes from the thing to the reason.
//
// The order of calls in a volume's life:
//
//   image-volume:  create_volume → copy_image_to_volume → seal → create_cloned_volume(source)… → delete_volume
//                  or prepare_import → seal → create_cloned_volume(source)… → finish_import → delete_volume
//   user volume:   create_cloned_volume(target) → [extend_volume]… → initialize_connection… → delete_volume
//
// Durability: when a call that makes or changes a volume has returned success, the change survives a power failure; of
// a clone whose CloneSpec has before_named, what list_unnamed_clones() then finds is enough. What a finished volume
// must look like so that Cinder's own driver can manage it is written in the driver's README.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "imagecache/error.hpp"
#include "imagecache/types.hpp"

namespace imagecache {

class Driver {
 public:
  virtual ~Driver() = default;

  virtual Capabilities capabilities() const = 0;

  /// Called once before any other call but capabilities(). Fails if the backend cannot work as configured, with a
  /// message that tells the operator what to do.
  virtual Result<void> check_for_setup_error() = 0;

  virtual Result<VolumeStats> get_volume_stats() = 0;

  /// What really exists, in no particular order; also things that the service did not make. Recovery compares.
  virtual Result<std::vector<VolumeId>> list_volumes() = 0;

  /// A new volume that reads as zeroes. Errc::already_exists if the name is taken; nothing is changed then.
  virtual Result<void> create_volume(const VolumeId& volume, std::uint64_t size_bytes) = 0;

  /// Fills a volume that create_volume has just made. May take minutes; ends soon after a stop (Errc::cancelled), and
  /// the service then deletes the volume.
  virtual Result<void> copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) = 0;

  /// Makes a filled volume ready to be a source of clones (on RBD its one snapshot). Idempotent.
  virtual Result<void> seal(const VolumeId& volume) {
    static_cast<void>(volume);
    return {};
  }

  /// A new volume with the source's content, and zeroes behind it up to size_bytes. Errc::not_found if the source is
  /// not there, Errc::already_exists if the target is; nothing is changed then. On failure nothing of the target
  /// remains.
  virtual Result<void> create_cloned_volume(const CloneSpec& clone) = 0;

  /// Once, after check_for_setup_error() and before any other call: clones of a CloneSpec with before_named that were
  /// whole when the service ended, and whose names are not there. before_named need not have been called.
  virtual Result<std::vector<VolumeId>> list_unnamed_clones() { return std::vector<VolumeId>(); }

  /// Then, for each of these: it gets its name, durably, if it is wanted and nothing has that name; else it goes.
  virtual Result<void> settle_unnamed_clone(const VolumeId& volume, bool is_wanted) {
    static_cast<void>(is_wanted);
    return fail(Errc::not_found, volume.name + ": no such clone without a name");
  }

  /// Grows, never shrinks (Errc::invalid_argument). The new part reads as zeroes.
  virtual Result<void> extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) = 0;

  /// Absent is a success. Clones of the volume are unharmed.
  virtual Result<void> delete_volume(const VolumeId& volume) = 0;

  virtual Result<ConnectionInfo> initialize_connection(const VolumeId& volume) = 0;

  // Instant import, with Capabilities::can_import: a volume that can be cloned and read before its bytes have been
  // copied, because whoever reads it reads them from where they are.

  /// In place of create_volume() and copy_image_to_volume(): a new volume of image.virtual_size_bytes() that reads as
  /// `source`, which is the same disk as `image`. Returns only when part of it has been read and compared. On failure
  /// something may be left, for delete_volume(); Errc::corrupt is for what is the image's fault, after others the
  /// service imports nothing to this backend for a time.
  virtual Result<void> prepare_import(const ImportSource& source, const ImageFile& image, const VolumeId& volume,
                                      std::stop_token stop) {
    static_cast<void>(source), static_cast<void>(image), static_cast<void>(stop);
    return fail(Errc::unsupported, volume.name + ": this driver cannot import");
  }

  /// Copies what has not been copied, which may take hours, and is Errc::busy once it has; the next call, before which
  /// the source can be looked at, makes the volume need it no more. Each goes on where one was cut short. Ends soon
  /// after a stop (Errc::cancelled), and with Errc::timeout when it does not get on, so that another volume has its
  /// turn. Until it has succeeded, delete_volume() of one that has clones is Errc::busy.
  virtual Result<void> finish_import(const VolumeId& volume, std::stop_token stop) {
    static_cast<void>(volume), static_cast<void>(stop);
    return {};
  }

  /// After finish_import(): may a client that opened a clone before still read from the source? A client whose storage
  /// does not tell it that the import has ended does so until it opens the clone anew.
  virtual Result<bool> needs_import_source(const VolumeId& volume) {
    static_cast<void>(volume);
    return false;
  }

  /// Finishes what had to be put off, such as the end of a source whose last clone somebody else has deleted, and
  /// prepares what is asked for again and again. Called every ten seconds or so, never twice at a time; while there is
  /// nothing to do it costs nothing.
  virtual Result<void> maintain() { return {}; }

  /// Opens a volume to be read while others may use it. Errc::not_found. A driver without it
  /// (Capabilities::can_read_volumes false) can make no volume from another and no image from a volume.
  virtual Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& volume) {
    return fail(Errc::unsupported, volume.name + ": this driver cannot read volumes");
  }

  /// Bytes of storage that a sealed volume holds by itself, for a report; absent where the backend cannot say at a cost
  /// that does not matter.
  virtual Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& volume) {
    static_cast<void>(volume);
    return std::nullopt;
  }

  /// What the driver hook's answer tells Cinder of a finished volume. Called only with
  /// Capabilities::has_model_update.
  virtual Result<ModelUpdate> model_update(const VolumeId& volume) {
    static_cast<void>(volume);
    return ModelUpdate{};
  }
};

/// Where a driver reads its section of cinder.conf. Names as the operator writes them; the value is what
/// [section] → [backend_defaults] → nothing gives. Only what Cinder's drivers take from [DEFAULT], `state_path` and
/// `volume_name_template`, is taken from there, with its default.
class BackendOptions {
 public:
  virtual ~BackendOptions() = default;
  virtual std::string section() const = 0;
  virtual std::optional<std::string> get(std::string_view option) const = 0;
};

/// Makes a driver from its section; fails on a missing or wrong option by naming section and option.
using DriverFactory = Result<std::unique_ptr<Driver>> (*)(const BackendOptions& options);

}  // namespace imagecache
