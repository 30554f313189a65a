//! The macro that makes a crate a plugin library.

/// Exports a plugin: `export_plugin!(Acme, include_str!("../vendor.yaml"));`, once in a `cdylib`, for a type that is a
/// [`Plugin`](crate::Plugin) and is made `From<Spec>`.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty, $vendor_yaml:expr) => {
        struct ExportedPlugin;

        impl $crate::abi::Exported for ExportedPlugin {
            type Plugin = $plugin;
            const VENDOR_YAML: &'static str = $vendor_yaml;
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
        }

        /// The one symbol that the host looks for.
        #[unsafe(no_mangle)]
        pub extern "C" fn provost_plugin_v1() -> *const $crate::abi::PluginTable {
            static TABLE: $crate::abi::PluginTable = $crate::abi::table::<ExportedPlugin>();
            &TABLE
        }
    };
}
