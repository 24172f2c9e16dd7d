// Images made at Glance: record, bytes, and taking it back. Private to the room.
#pragma once

#include <atomic>
#include <string>

#include "origin/curl_client.hpp"
#include "origin/origin.hpp"

namespace imagecache::origin {

/// Origin's promises of the same names. Asked once: what changes something is not to be done twice.
class GlanceUploads {
 public:
  /// Both outlive it.
  GlanceUploads(const GlanceOptions& options, CurlClient& client) : options_(options), client_(client) {}

  Result<ImageInfo> create_image(const NewImage& image, const base::RequestContext& context,
                                 const std::stop_token& stop);
  Result<void> upload(const std::string& image_id, std::uint64_t size_bytes, const ByteSource& source,
                      const base::RequestContext& context, const std::stop_token& stop);
  Result<void> protect_image(const std::string& image_id, const base::RequestContext& context);
  Result<void> delete_image(const std::string& image_id, const base::RequestContext& context);

 private:
  struct Question {
    std::string method;
    std::string path;
    std::string content_type{};
    ByteSource source{};
    std::uint64_t source_bytes = 0;
    bool long_lived = false;
  };
  /// The answer's body, if it was a success.
  Result<std::string> ask(const Question& question, const base::RequestContext& context, const std::stop_token& stop);

  const GlanceOptions& options_;
  CurlClient& client_;
  std::atomic<std::size_t> turn_ = 0;
};

}  // namespace imagecache::origin
