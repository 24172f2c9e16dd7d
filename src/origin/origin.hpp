// Where images come from: Glance over HTTP, or a directory of image files. Two questions only: what is this image, may
// this caller have it (describe); and give me its bytes from here on (stream).
//
// Everything here blocks, on a BlockingPool of the caller's, and is called from many of its threads at once. An Origin
// knows no cache: each call really asks. It is never the place where a right is assumed: what the origin denies for the
// context's token is an error here.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/request_context.hpp"
#include "imagecache/error.hpp"

namespace imagecache::origin {

/// What the origin says of an image. Claims, until the image cache has verified bytes against them.
struct ImageInfo {
  std::string id;
  std::string name;
  std::string status;                       ///< Glance's: "active", "queued", "deactivated"…
  std::string disk_format;                  ///< claimed: "raw", "qcow2"…; empty if not given
  std::string container_format;             ///< "bare"…
  std::optional<std::uint64_t> size_bytes;  ///< of the file; absent or zero where Glance does not know it
  std::optional<std::uint64_t> virtual_size_bytes;
  std::string checksum;       ///< MD5, lower-case hex; may be empty
  std::string os_hash_algo;   ///< e.g. "sha512"; may be empty
  std::string os_hash_value;  ///< lower-case hex; may be empty
  std::string updated_at;     ///< as the origin writes it; compared for equality only
  std::uint64_t min_disk_gb = 0;
  std::uint64_t min_ram_mb = 0;
  std::string owner;
  std::string visibility;
  std::map<std::string, std::string> properties;  ///< all other string properties, for volume_image_metadata

  /// What names the content: "sha512:<hex>" where the origin gives a hash (other than MD5 and SHA-1, of which two
  /// images can be made that share it), else "<id>@<updated_at>".
  std::string content_key() const;

  bool operator==(const ImageInfo&) const = default;
};

/// Bytes of an image as they arrive, in order. A failure ends the stream and is what stream() returns.
using ByteSink = std::function<Result<void>(std::span<const std::byte> data)>;

/// From where on an image is wanted, and of which version of it.
struct StreamFrom {
  // NOLINTNEXTLINE(google-explicit-constructor): a number is an offset and says all that most callers have to say.
  StreamFrom(std::uint64_t offset = 0, std::string etag = {}, std::string md5 = {})
      : offset_bytes(offset), if_range(std::move(etag)), content_md5(std::move(md5)) {}

  std::uint64_t offset_bytes;
  /// The etag that an earlier stream of this image began with: an origin that has another version by now begins at 0.
  std::string if_range;
  /// ImageInfo::checksum. An answer that names another is Errc::conflict before a byte of it is handed on.
  std::string content_md5;
};

/// How a stream began.
struct StreamStart {
  std::uint64_t offset_bytes = 0;  ///< where the first byte stands: the asked offset, or 0 if ranges are not had
  std::optional<std::uint64_t> total_bytes;  ///< of the whole image, if the answer says
  std::string etag{};                        ///< with its quotes, fit for if_range; empty: none, or a weak one
  std::string content_md5{};                 ///< lower-case hex, of the whole image; empty where the answer has none
};
/// Called once, before the first byte and after the answer's head is known to be good.
using StreamBegin = std::function<Result<void>(const StreamStart& start)>;

/// An image to be made at the origin.
struct NewImage {
  std::string name;
  std::string disk_format;
  std::string container_format;
  std::string visibility;            ///< empty: the origin's default
  std::optional<bool> is_protected;  ///< absent: the origin's default
  std::uint64_t min_disk_gb = 0;
  std::uint64_t min_ram_mb = 0;
  std::map<std::string, std::string> properties;
};

/// Fills `into` with the next bytes and says how many; 0 at the end.
using ByteSource = std::function<Result<std::size_t>(std::span<std::byte> into)>;

/// What images can be looked for by: a tag, or a property of that value.
struct ImageMark {
  std::string name;
  std::optional<std::string> value;  ///< absent: `name` is a tag
};

class Origin {
 public:
  virtual ~Origin() = default;

  /// May this caller see it, and what is it? Errc::not_found, unauthenticated, forbidden, unavailable,
  /// timeout; Errc::unavailable too for an answer that makes no sense (HTML with 200, endless or malformed JSON).
  virtual Result<ImageInfo> describe(const std::string& image_id, const base::RequestContext& context,
                                     std::stop_token stop = {}) = 0;

  /// May this caller have its bytes? Asked the way the bytes themselves are asked for, so that what decides there
  /// decides here (Glance: visibility, deactivation and the policy download_image, which may be stricter than
  /// get_image), without any byte being handed on. Errors as describe()'s. A yes for an image that has no bytes (yet)
  /// is a yes.
  virtual Result<void> authorize_download(const std::string& image_id, const base::RequestContext& context,
                                          std::stop_token stop = {}) = 0;

  /// Streams the image's bytes from `from.offset_bytes` on to `sink` until the end, a failure or a stop
  /// (Errc::cancelled). Success means that the far side ended the body properly and that, where it announced a length,
  /// all of it came. Errc::not_found for an image without data (204). A broken or stalled transfer is
  /// Errc::unavailable: asking again from the offset reached may succeed. More bytes than the answer announced are
  /// Errc::corrupt, and so is a file that changes while it is read; where total_bytes is absent, it is for the sink to
  /// say when there are too many. An origin without ranges, with fewer bytes than the offset or with another version
  /// than `from.if_range` begins at 0. An answer that shows by its checksum or etag that the image's content is no
  /// longer the same is Errc::conflict, and wants a new describe(). A failure of begin or sink comes back as it is.
  /// Retries of a refused start (503, connection) are done inside; those of a broken body are the caller's, who knows
  /// what has been written.
  virtual Result<void> stream(const std::string& image_id, const StreamFrom& from, const base::RequestContext& context,
                              const StreamBegin& begin, const ByteSink& sink, std::stop_token stop) = 0;

  // Making images. With the context's token; Errc::unsupported where images cannot be made.

  /// Its record, without bytes yet ("queued"). Errors as describe()'s, and Errc::invalid_argument, conflict,
  /// quota_exceeded with the origin's own words.
  virtual Result<ImageInfo> create_image(const NewImage& image, const base::RequestContext& context,
                                         std::stop_token stop = {});
  /// All of its bytes. Once success is told the image is active, or the origin is making it so. After Errc::timeout and
  /// Errc::unavailable it may be active all the same: ask.
  virtual Result<void> upload(const std::string& image_id, std::uint64_t size_bytes, const ByteSource& source,
                              const base::RequestContext& context, std::stop_token stop);
  /// From now on nobody can delete it.
  virtual Result<void> protect_image(const std::string& image_id, const base::RequestContext& context);
  /// One that is not there is a success.
  virtual Result<void> delete_image(const std::string& image_id, const base::RequestContext& context);

  /// Ids of active images that this caller sees and that bear the mark, newest first, `limit` at most.
  /// Errc::unsupported where images have no marks. Else errors as describe()'s.
  virtual Result<std::vector<std::string>> find_marked(const ImageMark& mark, std::size_t limit,
                                                       const base::RequestContext& context, std::stop_token stop = {}) {
    static_cast<void>(context);
    static_cast<void>(stop);
    static_cast<void>(limit);
    return fail(Errc::unsupported, name() + ": its images have no tags and properties to look for (" + mark.name + ")");
  }

  /// For people: "http://127.0.0.1:9292", "file:///srv/images".
  virtual std::string name() const = 0;

  /// Base URLs to which requests that are none of ours may be passed on; empty if this origin is not a server.
  virtual std::vector<std::string> proxy_urls() const { return {}; }

  /// The certificate files may have changed (SIGHUP): calls that begin from now on read them anew, on new connections.
  /// Never blocks.
  virtual void reload() {}
};

/// Glance over libcurl. Zero means "no limit" for none of these: every wait has an end.
struct GlanceOptions {
  std::vector<std::string> urls;  ///< "http://host:9292[/path]"; one is picked per call, the next on failure
  unsigned num_retries = 3;       ///< glance_num_retries: further attempts on 502, 503, 504, 429 and connection errors
  /// Once all URLs have been asked; a Retry-After may make it up to 8 times this.
  std::chrono::milliseconds retry_pause{1000};
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds describe_timeout{60'000};  ///< of one describe(), its retries included
  std::uint64_t low_speed_bytes_per_s = 1024;          ///< a stream slower than this …
  std::chrono::seconds low_speed_time{60};             ///< … for this long is broken off
  /// From the last byte of an upload to the answer: its store may have to put all of it away first.
  std::chrono::milliseconds upload_answer_timeout{3'600'000};
  std::uint64_t max_describe_bytes = 4 << 20;
  unsigned max_connections = 16;  ///< for streams at once. A wait for one ends in Errc::busy
  unsigned max_questions = 64;    ///< describe() and authorize_download() at once, on connections of their own
  bool insecure = false;          ///< glance_api_insecure
  std::string ca_file;            ///< glance_ca_certificates_file
  std::string cert_file;          ///< glance_certfile
  std::string key_file;           ///< glance_keyfile
};
Result<std::unique_ptr<Origin>> make_glance_origin(GlanceOptions options);

/// A directory of image files. The id is the file's name without its extension if that is a UUID, else a UUID made of
/// the name (version 5, so that it is the same on every host). What is worked out of a file (size, sha512, format by
/// its extension or first bytes, updated_at) is remembered in `state_path`/directory-origin.sqlite by inode, size,
/// mtime and ctime; a changed file is a new updated_at. The first describe() of a file reads all of it, others of the
/// same file wait for that; there is no MD5. Regular files only: hidden ones, links and sub-directories are no images.
/// Every caller may read everything.
struct DirectoryOptions {
  std::string directory;
  std::string state_path;
  std::uint64_t chunk_bytes = 1 << 20;
};
Result<std::unique_ptr<Origin>> make_directory_origin(DirectoryOptions options);

}  // namespace imagecache::origin
