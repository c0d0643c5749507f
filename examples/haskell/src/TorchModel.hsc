{-# LANGUAGE ForeignFunctionInterface #-}
{-# LANGUAGE ScopedTypeVariables #-}
{-# LANGUAGE TypeFamilies #-}
{-# LANGUAGE FlexibleContexts #-}

-- | TorchScript models and AOTInductor packages, through the C API in .torchlink/capi.
--
-- Failures are exceptions: 'TorchError'. Models and values are freed when they are garbage, or at once by 'free'. A
-- model may be called from many threads at once.
module TorchModel
  ( Model, load, exampleShapes, forward
  , Value, Content (..), content, value, free
  , Element, Nested, tensor, tensorOf, shape, elements
  , TorchError (..)
  ) where

import Control.Exception (Exception, mask_, throwIO)
import Control.Monad (unless)
import Data.Complex (Complex (..))
import Data.Proxy (Proxy (..))
import Foreign hiding (free)
import qualified Foreign
import Foreign.C
import qualified GHC.Foreign as Encoded
import GHC.IO.Encoding (getFileSystemEncoding, utf8)

#include <torchmodel.h>

-- | What libtorch or the C API said of a failure.
newtype TorchError = TorchError String deriving (Eq, Show)

instance Exception TorchError

data CModel
data CValue

-- | A TorchScript model or an AOTInductor package.
newtype Model = Model (ForeignPtr CModel)

-- | Anything that a model takes or returns.
newtype Value = Value (ForeignPtr CValue)

-- | What a value has in it. The elements of a tensor are read by 'elements'.
data Content
  = None
  | Bool Bool
  | Int Int64
  | Float Double
  | Complex (Complex Double)
  | String String
  | Tensor
  | List [Value]
  | Tuple [Value]
  | Dict [(Value, Value)]
  | Other

-- Each returns null or its message: cbits/torchmodel_hs.c. What may take long is safe, so that other threads go on.
type Call = IO CString
type Out a = Ptr (Ptr a) -> Call

foreign import ccall safe hs_model_load :: CString -> CString -> Out CModel
foreign import ccall safe hs_model_forward :: Ptr CModel -> Ptr (Ptr CValue) -> CSize -> Out CValue
foreign import ccall safe hs_example_shape :: Ptr CModel -> CSize -> Ptr Int64 -> Ptr Int32 -> Call
foreign import ccall unsafe hs_value_none :: Out CValue
foreign import ccall unsafe hs_value_bool :: Int32 -> Out CValue
foreign import ccall unsafe hs_value_int :: Int64 -> Out CValue
foreign import ccall unsafe hs_value_float :: Double -> Out CValue
foreign import ccall unsafe hs_value_complex :: Double -> Double -> Out CValue
foreign import ccall unsafe hs_value_string :: CString -> CSize -> Out CValue
foreign import ccall unsafe hs_value_list :: Ptr (Ptr CValue) -> CSize -> Out CValue
foreign import ccall unsafe hs_value_tuple :: Ptr (Ptr CValue) -> CSize -> Out CValue
foreign import ccall unsafe hs_value_dict :: Out CValue
foreign import ccall unsafe hs_value_dict_set :: Ptr CValue -> Ptr CValue -> Ptr CValue -> Call
foreign import ccall unsafe hs_value_kind :: Ptr CValue -> Ptr Int32 -> Call
foreign import ccall unsafe hs_value_get_bool :: Ptr CValue -> Ptr Int32 -> Call
foreign import ccall unsafe hs_value_get_int :: Ptr CValue -> Ptr Int64 -> Call
foreign import ccall unsafe hs_value_get_float :: Ptr CValue -> Ptr Double -> Call
foreign import ccall unsafe hs_value_get_complex :: Ptr CValue -> Ptr Double -> Call
foreign import ccall unsafe hs_value_get_string :: Ptr CValue -> Ptr CString -> Ptr CSize -> Call
foreign import ccall unsafe hs_value_length :: Ptr CValue -> Ptr CSize -> Call
foreign import ccall unsafe hs_value_item :: Ptr CValue -> CSize -> Out CValue
foreign import ccall unsafe hs_value_key :: Ptr CValue -> CSize -> Out CValue
foreign import ccall safe hs_tensor_copy :: Ptr () -> Int32 -> Ptr Int64 -> Int32 -> Out CValue
foreign import ccall unsafe hs_tensor_get_info :: Ptr CValue -> Ptr () -> Call
foreign import ccall safe hs_tensor_to_dtype :: Ptr CValue -> Int32 -> Out CValue
foreign import ccall safe hs_tensor_read :: Ptr CValue -> Ptr () -> CSize -> Call
foreign import ccall unsafe "&hs_free_model" freeModel :: FinalizerPtr CModel
foreign import ccall unsafe "&hs_free_value" freeValue :: FinalizerPtr CValue

check :: Call -> IO ()
check call = do
  failure <- call
  unless (failure == nullPtr) $ do
    text <- Encoded.peekCString utf8 failure
    Foreign.free failure
    throwIO (TorchError text)

-- | What a call writes through its out parameter.
out :: Storable a => (Ptr a -> Call) -> IO a
out call = alloca $ \place -> check (call place) >> peek place

-- | The value that a call writes; no exception of another thread comes between the call and its owner.
made :: Out CValue -> IO Value
made call = mask_ $ out call >>= fmap Value . newForeignPtr freeValue

with1 :: Value -> (Ptr CValue -> IO a) -> IO a
with1 (Value pointer) = withForeignPtr pointer

withValues :: [Value] -> (Ptr (Ptr CValue) -> CSize -> IO a) -> IO a
withValues values use = withMany with1 values $ \pointers -> withArrayLen pointers $ \count array -> use array (fromIntegral count)

-- | Free a value now, which must not be used any more. The garbage collector does so later otherwise, but sees a
-- pointer, not the elements behind it.
free :: Value -> IO ()
free (Value pointer) = finalizeForeignPtr pointer

-- * Models

-- | Load a model on a device: "cpu", "cuda:0", …
load :: FilePath -> String -> IO Model
load path device = do
  encoding <- getFileSystemEncoding
  Encoded.withCString encoding path $ \file -> Encoded.withCString utf8 device $ \place ->
    mask_ $ out (hs_model_load file place) >>= fmap Model . newForeignPtr freeModel

-- | A shape for each argument of forward that has no default: a guess from the weights.
exampleShapes :: Model -> IO [[Int]]
exampleShapes (Model pointer) = withForeignPtr pointer (from 0)
  where
    from index model = allocaArray #{const TM_MOST_DIMENSIONS} $ \list -> do
      dimensions <- out (hs_example_shape model index list)
      if dimensions < 0
        then pure []
        else (:) <$> (map fromIntegral <$> peekArray (fromIntegral dimensions) list) <*> from (index + 1) model

-- | Call the model; missing arguments take their defaults.
forward :: Model -> [Value] -> IO Value
forward (Model pointer) arguments =
  withForeignPtr pointer $ \model -> withValues arguments $ \values count -> made (hs_model_forward model values count)

-- * Values

-- | A value of what is in it; tensors are made by 'tensor'.
value :: Content -> IO Value
value None = made hs_value_none
value (Bool boolean) = made (hs_value_bool (if boolean then 1 else 0))
value (Int number) = made (hs_value_int number)
value (Float number) = made (hs_value_float number)
value (Complex (real :+ imaginary)) = made (hs_value_complex real imaginary)
value (String text) = Encoded.withCStringLen utf8 text $ \(bytes, size) -> made (hs_value_string bytes (fromIntegral size))
value (List items) = withValues items $ \values count -> made (hs_value_list values count)
value (Tuple items) = withValues items $ \values count -> made (hs_value_tuple values count)
value (Dict entries) = do
  dict <- made hs_value_dict
  with1 dict $ \table -> sequence_ [with1 key $ \k -> with1 item $ \i -> check (hs_value_dict_set table k i) | (key, item) <- entries]
  pure dict
value Tensor = throwIO (TorchError "a tensor is made by tensor")
value Other = throwIO (TorchError "an object of libtorch cannot be made")

-- | What is in a value.
content :: Value -> IO Content
content whole = with1 whole $ \pointer -> do
  kind <- out (hs_value_kind pointer)
  case kind of
    #{const TM_NONE} -> pure None
    #{const TM_BOOL} -> Bool . (/= 0) <$> out (hs_value_get_bool pointer)
    #{const TM_INT} -> Int <$> out (hs_value_get_int pointer)
    #{const TM_FLOAT} -> Float <$> out (hs_value_get_float pointer)
    #{const TM_COMPLEX} -> allocaArray 2 $ \parts -> do
      check (hs_value_get_complex pointer parts)
      Complex <$> ((:+) <$> peek parts <*> peekElemOff parts 1)
    #{const TM_STRING} -> alloca $ \size -> do
      text <- out (\place -> hs_value_get_string pointer place size)
      count <- peek size
      String <$> Encoded.peekCStringLen utf8 (text, fromIntegral count)
    #{const TM_TENSOR} -> pure Tensor
    #{const TM_LIST} -> List <$> each hs_value_item pointer
    #{const TM_TUPLE} -> Tuple <$> each hs_value_item pointer
    #{const TM_DICT} -> Dict <$> (zip <$> each hs_value_key pointer <*> each hs_value_item pointer)
    _ -> pure Other
  where
    each read' pointer = do
      count <- out (hs_value_length pointer)
      mapM (\index -> made (read' pointer index)) (if count == 0 then [] else [0 .. count - 1])

-- * Tensors

-- | A number type that tensors can have.
class Storable a => Element a where
  dtype :: Proxy a -> Int32

-- | Lists of numbers, nested to any depth.
class Element (Number a) => Nested a where
  type Number a
  depth :: Proxy a -> Int
  sizes :: a -> Maybe [Int]
  flat :: a -> [Number a]

instance Nested a => Nested [a] where
  type Number [a] = Number a
  depth _ = 1 + depth (Proxy :: Proxy a)
  sizes [] = Just (replicate (depth (Proxy :: Proxy [a])) 0)
  sizes rows@(first : _) = do
    inner <- sizes first
    if all ((== Just inner) . sizes) rows then Just (length rows : inner) else Nothing
  flat = concatMap flat

instance Element Word8 where dtype _ = #{const TM_UINT8}
instance Element Int8 where dtype _ = #{const TM_INT8}
instance Element Int16 where dtype _ = #{const TM_INT16}
instance Element Int32 where dtype _ = #{const TM_INT32}
instance Element Int64 where dtype _ = #{const TM_INT64}
instance Element Float where dtype _ = #{const TM_FLOAT32}
instance Element Double where dtype _ = #{const TM_FLOAT64}
instance Element Word16 where dtype _ = #{const TM_UINT16}
instance Element Word32 where dtype _ = #{const TM_UINT32}
instance Element Word64 where dtype _ = #{const TM_UINT64}

instance Nested Word8 where { type Number Word8 = Word8; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Int8 where { type Number Int8 = Int8; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Int16 where { type Number Int16 = Int16; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Int32 where { type Number Int32 = Int32; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Int64 where { type Number Int64 = Int64; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Float where { type Number Float = Float; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Double where { type Number Double = Double; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Word16 where { type Number Word16 = Word16; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Word32 where { type Number Word32 = Word32; depth _ = 0; sizes _ = Just []; flat number = [number] }
instance Nested Word64 where { type Number Word64 = Word64; depth _ = 0; sizes _ = Just []; flat number = [number] }

-- | A tensor of nested lists, which have one length a level.
tensor :: forall a. Nested a => a -> IO Value
tensor nested = case sizes nested of
  Nothing -> throwIO (TorchError "the rows have different lengths")
  Just found -> tensorOf found (flat nested)

-- | A tensor of a shape from its numbers in row-major order.
tensorOf :: forall a. Element a => [Int] -> [a] -> IO Value
tensorOf dimensions numbers = withArrayLen numbers $ \count array -> do
  unless (all (>= 0) dimensions && product (map toInteger dimensions) == toInteger count) $
    throwIO (TorchError ("the shape " ++ show dimensions ++ " does not have " ++ show count ++ " elements"))
  withArrayLen (map fromIntegral dimensions) $ \rank list ->
    made (hs_tensor_copy (castPtr array) (dtype (Proxy :: Proxy a)) list (fromIntegral rank))

withInfo :: Value -> (Ptr () -> IO a) -> IO a
withInfo whole use = with1 whole $ \pointer -> allocaBytes #{size tm_tensor_info} $ \info ->
  check (hs_tensor_get_info pointer info) >> use info

-- | The sizes of a tensor.
shape :: Value -> IO [Int]
shape whole = withInfo whole $ \info -> do
  dimensions <- #{peek tm_tensor_info, dimensions} info :: IO Int32
  list <- #{peek tm_tensor_info, shape} info :: IO (Ptr Int64)
  map fromIntegral <$> peekArray (fromIntegral dimensions) list

-- | The elements of a tensor in row-major order, converted.
elements :: forall a. Element a => Value -> IO [a]
elements whole = do
  converted <- with1 whole $ \pointer -> made (hs_tensor_to_dtype pointer (dtype (Proxy :: Proxy a)))
  count <- withInfo converted #{peek tm_tensor_info, elements} :: IO Int64
  numbers <- allocaArray (fromIntegral count) $ \buffer -> with1 converted $ \pointer -> do
    unless (count == 0) $
      check (hs_tensor_read pointer (castPtr buffer) (fromIntegral count * fromIntegral (sizeOf (undefined :: a))))
    peekArray (fromIntegral count) buffer
  free converted
  pure numbers
