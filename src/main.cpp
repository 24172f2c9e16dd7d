#include "app/login.hpp"
#include "app/offline.hpp"
#include "app/service.hpp"
#include "cli/cli.hpp"

int main(int argc, char** argv) {
  return imagecache::cli::run(argc, argv,
                              {.serve = imagecache::app::serve,
                               .offline = imagecache::app::work_offline,
                               .login = imagecache::app::log_in,
                               .project_of = imagecache::app::project_of});
}
