# Facts from a file. In Debian 12 those of MCollective itself cannot be read by its own Ruby, which is newer.

require "yaml"

module MCollective
  module Facts
    class Yaml_facts < Base
      def load_facts_from_source
        YAML.safe_load(File.read(Config.instance.pluginconf.fetch("yaml")))
      end
    end
  end
end
