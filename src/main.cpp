#include "app/service.hpp"
#include "cli/cli.hpp"

int main(int argc, char** argv) {
  return imagecache::cli::run(argc, argv, imagecache::app::serve);
}
