-- | Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE…]
-- The sizes are those of each input; without them they follow from the model.
module Main (main) where

import Control.Exception (SomeException, displayException, fromException, throwIO, try)
import Control.Monad (forM_, when)
import Data.Char (isDigit, toLower)
import System.Environment (getArgs)
import System.Exit (ExitCode (..), exitWith)
import System.IO
import TorchModel

main :: IO ()
main = do
  mapM_ (`hSetEncoding` utf8) [stdout, stderr]
  arguments <- getArgs
  case options arguments of
    Nothing -> hPutStrLn stderr "usage: app [--repeat N] MODEL [SIZE…]" >> exitWith (ExitFailure 2)
    Just (count, path, sizes) -> try (run path sizes count) >>= either failed pure

options :: [String] -> Maybe (Int, FilePath, [Int])
options ("--repeat" : count : rest) = do
  number <- wholeNumber count
  (_, path, sizes) <- options rest
  Just (number, path, sizes)
options (path : sizes) | path /= "--repeat" = (,,) 1 path <$> mapM wholeNumber sizes
options _ = Nothing

wholeNumber :: String -> Maybe Int
wholeNumber text
  | not (null text) && length text < 7 && all isDigit text = Just (read text)
  | otherwise = Nothing

failed :: SomeException -> IO ()
failed exception = do
  hPutStrLn stderr ("app: " ++ maybe (displayException exception) (\(TorchError message) -> message) (fromException exception))
  exitWith (ExitFailure 1)

run :: FilePath -> [Int] -> Int -> IO ()
run path sizes count = do
  model <- load path "cpu"
  guessed <- exampleShapes model
  let shapes = if null sizes then guessed else map (const sizes) guessed
  when (any ((> 2 ^ (31 :: Int)) . product . map toInteger) shapes) $ throwIO (TorchError "the input is too large")
  forM_ [1 .. count] $ \number -> do
    inputs <- mapM (\dimensions -> tensorOf dimensions (replicate (product dimensions) (1 :: Float))) shapes
    output <- forward model inputs
    when (number == count) (display output)
    mapM_ free (output : inputs)

-- | One line for each tensor, number and text in a value.
display :: Value -> IO ()
display value' = do
  found <- content value'
  case found of
    Tensor -> (elements value' :: IO [Float]) >>= putStrLn . unwords . map show
    List items -> mapM_ display items
    Tuple items -> mapM_ display items
    Dict entries -> mapM_ (display . snd) entries
    String text -> putStrLn text
    Int number -> print number
    Float number -> print number
    Complex number -> print number
    Bool boolean -> putStrLn (map toLower (show boolean))
    _ -> putStrLn "none"
