//! Making a function of a `fn`.

/// Makes the module a function: `function_sdk::export!(handle);`, with
/// `fn handle(event: Event) -> Result`.
///
/// A function that triggers with `batch` wake takes several events at once:
/// `function_sdk::export!(batch: handle_batch);`, with
/// `fn handle_batch(batch: Batch) -> Result<Failures>`. Where other triggers wake it as well, it has
/// both: `function_sdk::export!(handle, batch: handle_batch);`.
///
/// A function whose `state_version` grew says last how its old state is carried over:
/// `function_sdk::export!(handle, migrate: migrate);`, with
/// `fn migrate(old: OldState) -> Result<NewState>`. It is called once for every set of keys,
/// before the first event; an error takes the deployment back and leaves the old state as it is.
///
/// Outside of WebAssembly this only checks the types, so that tests see what the gateway will.
#[macro_export]
macro_rules! export {
    (batch: $batch:path, migrate: $migrate:path $(,)?) => {
        $crate::export!(batch: $batch);
        $crate::export!(@migrate $migrate);
    };

    (batch: $batch:path $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::contract::batching::exports::holm::function::batch_handler;

            struct Function;

            impl batch_handler::Guest for Function {
                fn handle_batch(
                    events: ::std::vec::Vec<batch_handler::Event>,
                    in_order: bool,
                ) -> ::std::result::Result<
                    ::std::vec::Vec<batch_handler::ItemFailure>,
                    batch_handler::Failure,
                > {
                    $crate::contract::run_batch($batch, events, in_order)
                }
            }

            $crate::contract::batching::export_batcher!(
                Function with_types_in $crate::contract::batching
            );
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn($crate::Batch) -> $crate::Result<$crate::Failures> = $batch;
    };

    (@migrate $migrate:path) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::contract::migrating::exports::holm::function::migration;

            struct Function;

            impl migration::Guest for Function {
                fn migrate(
                    old: migration::OldState,
                ) -> ::std::result::Result<::std::vec::Vec<migration::Entry>, ::std::string::String>
                {
                    $crate::contract::run_migrate($migrate, old)
                }
            }

            $crate::contract::migrating::export_migrator!(
                Function with_types_in $crate::contract::migrating
            );
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn($crate::OldState) -> $crate::Result<$crate::NewState> = $migrate;
    };

    ($handle:path $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::contract::function::exports::holm::function::handler;

            struct Function;

            impl handler::Guest for Function {
                fn handle(event: handler::Event) -> ::std::result::Result<(), handler::Failure> {
                    $crate::contract::run($handle, event)
                }
            }

            $crate::contract::function::export_function!(
                Function with_types_in $crate::contract::function
            );
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn($crate::Event) -> $crate::Result = $handle;
    };

    ($handle:path, batch: $batch:path $(, migrate: $migrate:path)? $(,)?) => {
        $crate::export!($handle);
        $crate::export!(batch: $batch);
        $($crate::export!(@migrate $migrate);)?
    };

    ($handle:path, migrate: $migrate:path $(,)?) => {
        $crate::export!($handle);
        $crate::export!(@migrate $migrate);
    };
}
